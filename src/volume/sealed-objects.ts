import { breathe, type Clock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import type {
  ByteRange,
  CallOptions,
  ObjectStart,
  ObjectStore,
  ReadOptions,
} from '../base/object-store.ts';
import { corrupt } from '../format/binary.ts';
import {
  coverOf,
  decodeSealedHeader,
  openParts,
  type SealedHeader,
  sealedHeaderBytes,
  sealedLength,
  sealedPartBytes,
  sealingInPlace,
} from '../format/sealed-object.ts';
import type { Subkey } from '../format/sealing.ts';
import type { EncryptedVolumes } from './encrypted-volumes.ts';
import type { VolumeSealing } from './volume-sealing.ts';

/** Headers of sealed objects that are remembered, with the keys derived of them; some 300 bytes each. */
const maximumHeaders = 8192;
/** Bytes sealed before others get their turn: about 1 ms. */
const turnBytes = 2 ** 20;
const objectPattern = /^volumes\/([0-9a-f]{32})\//;
const fromStart = { firstPart: 0, from: sealedHeaderBytes, skip: 0 };

/** What is known of a sealed object that was read before. */
interface Known {
  readonly header: SealedHeader;
  readonly subkey: Subkey;
}

/** Objects of encrypted volumes, sealed as they are put, and opened as they are read. */
export class SealedObjects {
  private readonly store: ObjectStore;
  private readonly volumes: EncryptedVolumes;
  /** By key, the one read longest ago first. */
  private readonly headers = new Map<string, Known>();
  private readonly clock: Clock;

  constructor(store: ObjectStore, volumes: EncryptedVolumes, clock: Clock) {
    this.store = store;
    this.clock = clock;
    this.volumes = volumes;
  }

  private sealingFor(key: string): VolumeSealing | undefined | Promise<VolumeSealing | undefined> {
    const volumeId = objectPattern.exec(key)?.[1];
    if (volumeId === undefined) return undefined;
    const known = this.volumes.find(volumeId);
    return known === 'unknown' ? this.volumes.sealingOf(volumeId) : known;
  }

  async put(
    key: string,
    parts: readonly Uint8Array[],
    options: CallOptions | undefined,
  ): Promise<void> {
    const sealing = await this.sealingFor(key);
    if (sealing === undefined) return this.store.put(key, parts, options);
    const plainBytes = totalBytes(parts);
    const into = new Uint8Array(sealedLength(plainBytes));
    const seal = await sealing.sameObject(key, this.gather(parts, into));
    let sealed = 0;
    for (const _ of sealingInPlace(into, plainBytes, seal)) {
      sealed += sealedPartBytes;
      if (sealed % turnBytes === 0) await breathe(this.clock);
    }
    return this.store.put(key, [into], options);
  }

  /** Copies parts to the start of `into`, and gives them piece by piece: others come in between. */
  private async *gather(
    parts: readonly Uint8Array[],
    into: Uint8Array,
  ): AsyncGenerator<Uint8Array> {
    let at = 0;
    for (const part of parts) {
      into.set(part, at);
      at += part.byteLength;
    }
    for (let from = 0; from < at; from += turnBytes) {
      if (from > 0) await breathe(this.clock);
      yield into.subarray(from, Math.min(at, from + turnBytes));
    }
  }

  async get(
    key: string,
    range: ByteRange | undefined,
    options: ReadOptions | undefined,
  ): Promise<Uint8Array> {
    const sealing = await this.sealingFor(key);
    if (sealing === undefined) return this.store.get(key, range, options);
    if (range === undefined) {
      const stored = await this.store.get(key, undefined, options);
      const known = this.learn(sealing, key, stored, stored.byteLength);
      return openParts(known.header, known.subkey, key, stored, fromStart);
    }
    const before = this.headers.get(key);
    if (before === undefined)
      return this.getRange(await this.read(sealing, key), key, range, options);
    try {
      return await this.getRange(before, key, range, options);
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      // A late attempt to put it may have gone over it since, under another salt.
      const now = await this.read(sealing, key);
      if (Buffer.compare(now.header.bytes, before.header.bytes) === 0) throw error;
      return this.getRange(now, key, range, options);
    }
  }

  private async getRange(
    { header, subkey }: Known,
    key: string,
    { offset, lengthBytes }: ByteRange,
    options: ReadOptions | undefined,
  ): Promise<Uint8Array> {
    const end = offset + lengthBytes;
    if (end > header.plainBytes)
      throw corrupt(`it ends at ${header.plainBytes}, before byte ${end}`);
    if (lengthBytes === 0) return new Uint8Array(0);
    const { firstPart, ...cover } = coverOf(offset, end, header.plainBytes);
    const stored = await this.store.get(key, cover, options);
    const skip = offset - firstPart * sealedPartBytes;
    const plain = openParts(header, subkey, key, stored, { firstPart, from: 0, skip });
    return plain.subarray(0, lengthBytes);
  }

  async getStart(
    key: string,
    maxBytes: number,
    options: ReadOptions | undefined,
  ): Promise<ObjectStart> {
    const sealing = await this.sealingFor(key);
    if (sealing === undefined) return this.store.getStart(key, maxBytes, options);
    const { offset, lengthBytes } = coverOf(0, maxBytes, Number.POSITIVE_INFINITY);
    const start = await this.store.getStart(key, offset + lengthBytes, options);
    const { header, subkey } = this.learn(sealing, key, start.bytes, start.objectBytes);
    const plain = openParts(header, subkey, key, start.bytes, fromStart);
    return { bytes: plain.subarray(0, maxBytes), objectBytes: header.plainBytes };
  }

  private async read(sealing: VolumeSealing, key: string): Promise<Known> {
    const { bytes, objectBytes } = await this.store.getStart(key, sealedHeaderBytes);
    return this.learn(sealing, key, bytes, objectBytes);
  }

  /** The header of an object that is whole. */
  private learn(
    sealing: VolumeSealing,
    key: string,
    start: Uint8Array,
    objectBytes: number,
  ): Known {
    const header = decodeSealedHeader(start);
    if (objectBytes !== sealedLength(header.plainBytes))
      throw corrupt(`it has ${objectBytes} bytes of ${sealedLength(header.plainBytes)}`);
    const before = this.headers.get(key);
    const isSame = before !== undefined && Buffer.compare(before.header.bytes, header.bytes) === 0;
    const known = isSame ? before : { header, subkey: sealing.objectKey(header) };
    this.headers.delete(key);
    this.headers.set(key, known);
    if (this.headers.size > maximumHeaders) {
      for (const oldest of this.headers.keys()) {
        this.headers.delete(oldest);
        break;
      }
    }
    return known;
  }
}

function totalBytes(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
