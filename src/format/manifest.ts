import { corrupt } from './binary.ts';
import type { StorageError } from '../base/errors.ts';
import type { Codec } from './compression.ts';
import { blockBytes, maximumVolumeBytes } from './geometry.ts';
import type { LogPosition } from './names.ts';

/** When an acknowledged FLUSH survives: the local disk has it, or the store has it. */
export type Durability = 'local' | 'store';

/** The segments that one epoch wrote: those after the tenure before it, up to `lastSegment`. */
export interface Tenure {
  readonly epoch: number;
  readonly lastSegment: number;
}

export interface Writer {
  /** Names the state directory that holds the volume's journal. */
  readonly id: string;
  /** For people. */
  readonly host: string;
  /** Changes while the writer lives. */
  readonly lease: number;
  /** How long others must see `lease` unchanged before they may call the writer dead. */
  readonly leaseMs: number;
}

/** The one mutable object of a volume; replaced only by compare-and-swap. */
export interface Manifest {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly createdAt: string;
  readonly codec: Codec;
  readonly durability: Durability;
  /** The present tenure; 0 before the first. */
  readonly epoch: number;
  /** Epochs up to this one are over: nothing of theirs counts past the last of `tenures`. */
  readonly closedThrough: number;
  readonly tenures: readonly Tenure[];
  readonly writer: Writer | undefined;
  /** The segment up to which the map is in the checkpoint of this position; none at first. */
  readonly head: LogPosition | undefined;
  /** Random at every swap: tells one's own swap whose answer was lost from another's. */
  readonly nonce: string;
}

const formatName = 'elasticdrive-volume';
const version = 1;
/** What the lease was while manifests did not say it. */
const leaseMsBefore = 120_000;

export function encodeManifest(manifest: Manifest): Uint8Array {
  const document = {
    format: formatName,
    version,
    id: manifest.id,
    name: manifest.name,
    sizeBytes: manifest.sizeBytes,
    createdAt: manifest.createdAt,
    codec: manifest.codec,
    durability: manifest.durability,
    epoch: manifest.epoch,
    closedThrough: manifest.closedThrough,
    tenures: manifest.tenures,
    writer: manifest.writer ?? null,
    head: manifest.head ?? null,
    ancestors: [],
    snapshots: [],
    nonce: manifest.nonce,
  };
  return new TextEncoder().encode(`${JSON.stringify(document, null, 2)}\n`);
}

export function decodeManifest(bytes: Uint8Array): Manifest {
  const fields = new Fields(parseJson(bytes, 'manifest'), 'manifest');
  if (fields.text('format') !== formatName) throw corrupt('not the manifest of a volume');
  const found = fields.count('version');
  if (found !== version)
    throw corrupt(`manifest of version ${found}, this program knows ${version}`);
  if (fields.list('ancestors').length + fields.list('snapshots').length > 0) {
    throw corrupt('the manifest has ancestors or snapshots, which this program does not know');
  }
  const manifest: Manifest = {
    id: fields.matching('id', /^[0-9a-f]{32}$/),
    name: fields.text('name'),
    sizeBytes: fields.count('sizeBytes'),
    createdAt: fields.text('createdAt'),
    codec: fields.oneOf('codec', ['none', 'zstd', 'lz4']),
    durability: fields.oneOf('durability', ['local', 'store']),
    epoch: fields.count('epoch'),
    closedThrough: fields.count('closedThrough'),
    tenures: fields.list('tenures').map(decodeTenure),
    writer: fields.optional('writer', decodeWriter),
    head: fields.optional('head', decodePosition),
    nonce: fields.text('nonce'),
  };
  requirePlausible(manifest);
  return manifest;
}

function requirePlausible(manifest: Manifest): void {
  if (manifest.sizeBytes % blockBytes !== 0 || manifest.sizeBytes > maximumVolumeBytes) {
    throw corrupt(`manifest with an impossible size of ${manifest.sizeBytes} bytes`);
  }
  if (manifest.closedThrough > manifest.epoch) throw corrupt('manifest that closed a later epoch');
  manifest.tenures.forEach((tenure, at) => {
    const before = manifest.tenures[at - 1];
    const rises =
      before === undefined ||
      (tenure.epoch > before.epoch && tenure.lastSegment > before.lastSegment);
    if (!rises || tenure.epoch > manifest.closedThrough)
      throw corrupt('manifest with tenures out of order');
  });
}

function decodeTenure(value: unknown): Tenure {
  const fields = new Fields(value, 'tenure');
  return { epoch: fields.count('epoch'), lastSegment: fields.count('lastSegment') };
}

function decodeWriter(value: unknown): Writer {
  const fields = new Fields(value, 'writer');
  return {
    id: fields.text('id'),
    host: fields.text('host'),
    lease: fields.count('lease'),
    leaseMs: fields.count('leaseMs', leaseMsBefore),
  };
}

function decodePosition(value: unknown): LogPosition {
  const fields = new Fields(value, 'position');
  return { segment: fields.count('segment'), epoch: fields.count('epoch') };
}

/** The last segment of all closed tenures; 0 when nothing was written. */
export function lastClosedSegment(manifest: Manifest): number {
  return manifest.tenures.at(-1)?.lastSegment ?? 0;
}

/** The epoch under which `segment` was written; what no tenure holds is the present epoch's. */
export function epochOfSegment(manifest: Manifest, segment: number): number {
  let low = 0;
  let high = manifest.tenures.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((manifest.tenures[middle]?.lastSegment ?? 0) < segment) low = middle + 1;
    else high = middle;
  }
  return manifest.tenures[low]?.epoch ?? manifest.epoch;
}

/** The value of a volume's name. */
export function encodeNameRecord(volumeId: string): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ id: volumeId })}\n`);
}

export function decodeNameRecord(bytes: Uint8Array): string {
  return new Fields(parseJson(bytes, 'name'), 'name').matching('id', /^[0-9a-f]{32}$/);
}

export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch {
    throw corrupt(`${what} that is not JSON`);
  }
}

/** Reads fields of a JSON object, each required to be what the format says. */
export class Fields {
  private readonly object: Readonly<Record<string, unknown>>;
  private readonly what: string;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw corrupt(`${what} that is not a JSON object`);
    }
    this.object = value as Record<string, unknown>;
    this.what = what;
  }

  text(key: string): string {
    const value = this.object[key];
    if (typeof value !== 'string') throw this.wrong(key, 'text');
    return value;
  }

  matching(key: string, pattern: RegExp): string {
    const value = this.text(key);
    if (!pattern.test(value)) throw this.wrong(key, `text like ${pattern.source}`);
    return value;
  }

  oneOf<T extends string>(key: string, values: readonly T[]): T {
    const value = this.text(key);
    const known = values.find((candidate) => candidate === value);
    if (known === undefined) throw this.wrong(key, `one of ${values.join(', ')}`);
    return known;
  }

  count(key: string, absent?: number): number {
    const value = this.object[key] ?? absent;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.wrong(key, 'a whole number');
    }
    return value;
  }

  flag(key: string): boolean {
    const value = this.object[key];
    if (typeof value !== 'boolean') throw this.wrong(key, 'true or false');
    return value;
  }

  list(key: string): readonly unknown[] {
    const value = this.object[key];
    if (!Array.isArray(value)) throw this.wrong(key, 'a list');
    return value;
  }

  optional<T>(key: string, decode: (value: unknown) => T): T | undefined {
    const value = this.object[key];
    if (value === undefined) throw this.wrong(key, 'a value or null');
    return value === null ? undefined : decode(value);
  }

  private wrong(key: string, expected: string): StorageError {
    return corrupt(`${this.what}: "${key}" is not ${expected}`);
  }
}
