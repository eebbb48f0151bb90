import { randomFillSync } from 'node:crypto';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { KeyContext, WrappedKey } from '../format/wrapped-key.ts';
import { open, seal } from './aead.ts';
import type { KeyDescription, KeyProvider } from './key-provider.ts';
import type { KeyEntry } from './keyring-entry.ts';
import { wipe } from './wiping.ts';

/** Something elsewhere that keeps a secret of 32 bytes, and gives it back to who may have it. */
export interface KeyKeeper {
  /** What it wants to be shown when it is to give the secret back; nothing secret. */
  protect(secret: Uint8Array, context: KeyContext): Promise<Readonly<Record<string, string>>>;
  recover(fields: Readonly<Record<string, string>>, context: KeyContext): Promise<Uint8Array>;
  /** Its key in a new version; resolves with the settings that change with it. */
  rotate(): Promise<Readonly<Record<string, string>>>;
  readonly where: string;
}

const secretBytes = 32;

/**
 * A key that lives elsewhere. What is kept there is a fresh secret for each data key, and the data key
 * is sealed with that here: so it is bound to its volume and generation whatever the keeper binds.
 */
export class EnvelopeKey implements KeyProvider {
  #entry: KeyEntry;
  readonly #keeper: KeyKeeper;
  readonly #save: (entry: KeyEntry) => Promise<void>;

  constructor(entry: KeyEntry, keeper: KeyKeeper, save: (entry: KeyEntry) => Promise<void>) {
    this.#entry = entry;
    this.#keeper = keeper;
    this.#save = save;
  }

  async wrap(dataKey: Uint8Array, context: KeyContext): Promise<WrappedKey> {
    const { name, id, provider, version } = this.#entry;
    const secret = randomFillSync(new Uint8Array(secretBytes));
    try {
      const fields = await this.#keeper.protect(secret, context);
      const sealed = seal(secret, dataKey, bindingOf(id, context));
      return {
        ...{ provider, keyName: name, keyId: id, keyVersion: version },
        fields: { ...fields, sealed: Buffer.from(sealed).toString('base64url') },
      };
    } finally {
      wipe(secret);
    }
  }

  async unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array> {
    const { name, id, provider } = this.#entry;
    if (wrapped.provider !== provider || wrapped.keyId !== id) {
      throw new StorageError('wrong-key', `another key than "${name}" wrapped it`);
    }
    const secret = await this.#keeper.recover(wrapped.fields, context);
    try {
      if (secret.length !== secretBytes) throw this.#notOurs();
      const sealed = Buffer.from(wrapped.fields['sealed'] ?? '', 'base64url');
      return open(secret, sealed, bindingOf(id, context));
    } catch (error) {
      throw isStorageError(error, 'wrong-key') ? this.#notOurs() : error;
    } finally {
      wipe(secret);
    }
  }

  async rotate(): Promise<number> {
    const settings = { ...this.#entry.settings, ...(await this.#keeper.rotate()) };
    this.#entry = { ...this.#entry, version: this.#entry.version + 1, settings };
    await this.#save(this.#entry);
    return this.#entry.version;
  }

  describe(): KeyDescription {
    return { kind: this.#entry.provider, where: this.#keeper.where };
  }

  /** What was opened is wiped as soon as it was used. */
  close(): void {}

  #notOurs(): StorageError {
    const { name } = this.#entry;
    return new StorageError(
      'wrong-key',
      `what the key "${name}" ${this.#keeper.where} gave back does not open the data key`,
    );
  }
}

function bindingOf(keyId: string, { volumeId, generation }: KeyContext): Uint8Array {
  return Buffer.from(JSON.stringify(['elasticdrive data key 1', keyId, volumeId, generation]));
}
