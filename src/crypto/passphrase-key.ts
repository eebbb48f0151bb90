import { randomBytes, randomFillSync } from 'node:crypto';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { KeyContext, WrappedKey } from '../format/wrapped-key.ts';
import { open, seal } from './aead.ts';
import type { KeyDescription, KeyProvider } from './key-provider.ts';
import type { KeyEntry, SealedVersions } from './keyring-entry.ts';
import type { AskPassphrase, Passphrase } from './passphrase.ts';
import { deriveByScrypt, newScryptParameters, type ScryptParameters } from './scrypt.ts';
import { SymmetricKey, symmetricKeyBytes } from './symmetric-key.ts';
import { wipe } from './wiping.ts';

export interface PassphraseKeyOptions {
  readonly entry: KeyEntry;
  /** The path of the keyring. */
  readonly keyring: string;
  readonly ask: AskPassphrase;
  readonly save: (entry: KeyEntry) => Promise<void>;
}

/** A key of the keyring, opened with its passphrase when it is first used, until it is closed. */
export class PassphraseKey implements KeyProvider {
  readonly #options: PassphraseKeyOptions;
  #entry: KeyEntry;
  #opened: Promise<SymmetricKey> | undefined;

  constructor(options: PassphraseKeyOptions) {
    this.#options = options;
    this.#entry = options.entry;
  }

  async wrap(secret: Uint8Array, context: KeyContext): Promise<WrappedKey> {
    return (await this.#key()).wrap(secret, context);
  }

  async unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array> {
    return (await this.#key()).unwrap(wrapped, context);
  }

  /** That the passphrase is the right one; `wrong-key` when it is not. */
  async verify(): Promise<void> {
    await this.#key();
  }

  async rotate(): Promise<number> {
    const passphrase = await this.#options.ask(this.#entry.name);
    const fresh = randomFillSync(new Uint8Array(symmetricKeyBytes));
    await this.#reseal(passphrase, passphrase, [fresh]);
    return this.#entry.version;
  }

  /** All versions are sealed with the next passphrase from now on. */
  async changePassphrase(next: Passphrase): Promise<void> {
    await this.#reseal(await this.#options.ask(this.#entry.name), next, []);
  }

  /** Wipes all that it is given. */
  async #reseal(present: Passphrase, next: Passphrase, more: readonly Uint8Array[]): Promise<void> {
    const versions: Uint8Array[] = [];
    try {
      versions.push(...(await this.#open(present)), ...more);
      const sealed = await sealVersions(this.#entry.id, versions, next.bytes);
      this.#entry = { ...this.#entry, version: versions.length, sealed };
    } finally {
      wipe(present.bytes, next.bytes, ...versions, ...more);
    }
    this.close();
    await this.#options.save(this.#entry);
  }

  describe(): KeyDescription {
    return { kind: 'passphrase', where: this.#where };
  }

  get #where(): string {
    return `in the keyring ${this.#options.keyring}`;
  }

  close(): void {
    // What could not be opened is nothing to be wiped.
    void this.#opened?.then(
      (key) => key.close(),
      () => undefined,
    );
    this.#opened = undefined;
  }

  /** Opened once for all who ask meanwhile. */
  #key(): Promise<SymmetricKey> {
    const opened = this.#opened ?? this.#openAll();
    this.#opened = opened;
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    return opened;
  }

  async #openAll(): Promise<SymmetricKey> {
    const { name, id } = this.#entry;
    const passphrase = await this.#options.ask(name);
    try {
      const versions = await this.#open(passphrase);
      return new SymmetricKey({ name, id, where: this.#where, versions });
    } finally {
      wipe(passphrase.bytes);
    }
  }

  async #open({ bytes, from }: Passphrase): Promise<Uint8Array[]> {
    const { name, id, sealed } = this.#entry;
    if (sealed === undefined) throw new StorageError('internal', `the key "${name}" is not sealed`);
    try {
      return await openVersions(id, sealed, bytes);
    } catch (error) {
      if (!isStorageError(error, 'wrong-key')) throw error;
      throw new StorageError(
        'wrong-key',
        `the passphrase ${from} does not open the key "${name}" ${this.#where}`,
      );
    }
  }
}

/** A new key, sealed with this passphrase. */
export async function newPassphraseKey(
  name: string,
  createdAt: string,
  passphrase: Uint8Array,
): Promise<KeyEntry> {
  const id = randomBytes(16).toString('hex');
  const key = randomFillSync(new Uint8Array(symmetricKeyBytes));
  const sealed = await sealVersions(id, [key], passphrase);
  wipe(key);
  return { name, id, provider: 'passphrase', createdAt, version: 1, sealed, settings: {} };
}

async function sealVersions(
  id: string,
  versions: readonly Uint8Array[],
  passphrase: Uint8Array,
): Promise<SealedVersions> {
  const scrypt = newScryptParameters();
  const over = await deriveByScrypt(passphrase, scrypt, symmetricKeyBytes);
  const sealed = versions.map((key, at) => seal(over, key, bindingOf(id, at + 1, scrypt)));
  wipe(over);
  return { scrypt, versions: sealed };
}

async function openVersions(
  id: string,
  { scrypt, versions }: SealedVersions,
  passphrase: Uint8Array,
): Promise<Uint8Array[]> {
  const over = await deriveByScrypt(passphrase, scrypt, symmetricKeyBytes);
  const opened: Uint8Array[] = [];
  try {
    versions.forEach((sealed, at) =>
      opened.push(open(over, sealed, bindingOf(id, at + 1, scrypt))),
    );
    return opened;
  } catch (error) {
    wipe(...opened);
    throw error;
  } finally {
    wipe(over);
  }
}

function bindingOf(id: string, version: number, { N, r, p }: ScryptParameters): Uint8Array {
  return Buffer.from(JSON.stringify(['elasticdrive keyring 1', id, version, N, r, p]));
}
