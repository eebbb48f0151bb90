import { randomFillSync } from 'node:crypto';
import { StorageError } from '../base/errors.ts';
import type { KeyContext, WrappedKey } from '../format/wrapped-key.ts';
import { open, seal } from './aead.ts';
import type { KeyDescription, KeyProvider } from './key-provider.ts';
import { wipe } from './wiping.ts';

export const symmetricKeyBytes = 32;

export interface SymmetricKeyOptions {
  readonly name: string;
  readonly id: string;
  readonly where: string;
  /** Each version's key, the first version first; this provider wipes them. */
  readonly versions: readonly Uint8Array[];
}

/** A key of 32 bytes in memory, with its older versions. */
export class SymmetricKey implements KeyProvider {
  readonly #options: SymmetricKeyOptions;
  readonly #versions: Uint8Array[];

  constructor(options: SymmetricKeyOptions) {
    this.#options = options;
    this.#versions = [...options.versions];
  }

  async wrap(secret: Uint8Array, context: KeyContext): Promise<WrappedKey> {
    const { name, id } = this.#options;
    const keyVersion = this.#versions.length;
    const sealed = seal(this.#version(keyVersion), secret, bindingOf(id, keyVersion, context));
    return {
      ...{ provider: 'passphrase', keyName: name, keyId: id, keyVersion },
      fields: { sealed: Buffer.from(sealed).toString('base64url') },
    };
  }

  async unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array> {
    const { provider, keyId, keyVersion, fields } = wrapped;
    const { name, id, where } = this.#options;
    if (provider !== 'passphrase' || keyId !== id) {
      throw new StorageError('wrong-key', `another key than "${name}" ${where} wrapped it`);
    }
    const sealed = Buffer.from(fields['sealed'] ?? '', 'base64url');
    return open(this.#version(keyVersion), sealed, bindingOf(id, keyVersion, context));
  }

  async rotate(): Promise<number> {
    return this.#versions.push(randomFillSync(new Uint8Array(symmetricKeyBytes)));
  }

  describe(): KeyDescription {
    return { kind: 'passphrase', where: this.#options.where };
  }

  /** The key of the newest version, to be kept sealed. */
  get newest(): Uint8Array {
    return this.#version(this.#versions.length);
  }

  close(): void {
    wipe(...this.#versions);
  }

  #version(version: number): Uint8Array {
    const key = this.#versions[version - 1];
    if (key !== undefined) return key;
    const { name, where } = this.#options;
    const newest = `only ${this.#versions.length} are known ${where}`;
    const message = `version ${version} of the key "${name}" is needed, and ${newest}`;
    throw new StorageError('wrong-key', `${message}: import it from where it was made`);
  }
}

/** What a wrapped key is good for, as bytes that are the same for the same only. */
function bindingOf(keyId: string, keyVersion: number, context: KeyContext): Uint8Array {
  const { volumeId, generation } = context;
  const parts = ['elasticdrive data key 1', keyId, keyVersion, volumeId, generation];
  return Buffer.from(JSON.stringify(parts));
}
