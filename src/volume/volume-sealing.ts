import { createHmac, type KeyObject } from 'node:crypto';
import type { VolumeKeys } from '../crypto/volume-keys.ts';
import { wipe } from '../crypto/wiping.ts';
import { StorageError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { corrupt } from '../format/binary.ts';
import type { Encryption } from '../format/encryption.ts';
import type { JournalSealing } from '../format/journal-file.ts';
import type { Manifest } from '../format/manifest.ts';
import type { ObjectSeal, SealedHeader } from '../format/sealed-object.ts';
import { deriveKey, keyBytes, saltBytes, type Subkey, takeKey } from '../format/sealing.ts';

type Encrypted = Pick<Manifest, 'id' | 'name'> & { readonly encryption: Encryption };

/** The data keys of one encrypted volume, and what is sealed with them. */
export class VolumeSealing {
  readonly encryption: Encryption;
  private readonly random: Random;
  private readonly secrets = new Map<number, KeyObject>();

  private constructor(encryption: Encryption, random: Random) {
    this.encryption = encryption;
    this.random = random;
  }

  /** Unwraps all data keys of a volume; `wrong-key` says of which key and where it lives. */
  static async unlock(
    { id, name, encryption }: Encrypted,
    keys: VolumeKeys,
    random: Random,
  ): Promise<VolumeSealing> {
    const sealing = new VolumeSealing(encryption, random);
    const wrapped = encryption.keys.map((key) => ({ ...key, volumeId: id }));
    const secrets = await keys.unwrapAll(name, wrapped);
    wrapped.forEach(({ generation }, at) => {
      const secret = secrets[at];
      if (secret?.byteLength !== keyBytes) {
        wipe(...secrets);
        const message = `A data key of volume ${name} was unwrapped and is not ${keyBytes} bytes long.`;
        throw new StorageError('wrong-key', message);
      }
      sealing.secrets.set(generation, takeKey(secret));
    });
    wipe(...secrets);
    return sealing;
  }

  private secretOf(generation: number): KeyObject {
    const secret = this.secrets.get(generation);
    if (secret !== undefined) return secret;
    throw corrupt(`it is sealed with data key ${generation}, which its manifest does not have`);
  }

  /** What an object is sealed with that is made once, and put under this key of the store. */
  newObject(place: string): ObjectSeal {
    return this.objectOf(place, this.random.bytes(saltBytes));
  }

  private objectOf(place: string, salt: Uint8Array): ObjectSeal {
    const { cipher, generation } = this.encryption;
    const key = deriveKey(this.secretOf(generation), salt, 'object');
    return { cipher, generation, salt, key, place };
  }

  /**
   * As `newObject`, for one that may be made again, as a checkpoint is that was not stored to its end:
   * what is the same has the same salt, and is the same object; what is not has another.
   */
  async sameObject(place: string, pieces: AsyncIterable<Uint8Array>): Promise<ObjectSeal> {
    const secret = this.secretOf(this.encryption.generation);
    const hmac = createHmac('sha256', deriveKey(secret, new Uint8Array(saltBytes), 'salt'));
    hmac.update(`${place}\n`);
    for await (const piece of pieces) hmac.update(piece);
    return this.objectOf(place, hmac.digest());
  }

  objectKey({ cipher, generation, salt }: SealedHeader): Subkey {
    return { cipher, key: deriveKey(this.secretOf(generation), salt, 'object') };
  }

  /** With what one use of a journal file is sealed, as its header says it. */
  newJournal(): JournalSealing {
    const { cipher, generation } = this.encryption;
    return { cipher, generation, salt: this.random.bytes(saltBytes) };
  }

  journalKey({ cipher, generation, salt }: JournalSealing): Subkey {
    return { cipher, key: deriveKey(this.secretOf(generation), salt, 'journal') };
  }

  /** A key for what means nothing after this process has ended. */
  passingKey(): Subkey {
    return { cipher: this.encryption.cipher, key: takeKey(this.random.bytes(keyBytes)) };
  }

  /** Authenticates the manifest. */
  manifestKey(): KeyObject {
    const secret = this.secretOf(this.encryption.generation);
    return deriveKey(secret, new Uint8Array(saltBytes), 'manifest');
  }
}
