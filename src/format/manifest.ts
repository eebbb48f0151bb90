import { corrupt } from './binary.ts';
import type { Codec } from './compression.ts';
import { blockBytes, maximumVolumeBytes } from './geometry.ts';
import { decodeEncryption, type Encryption } from './encryption.ts';
import { Fields, parseJson } from './json-fields.ts';
import { type Ancestor, decodeAncestor } from './lineage.ts';
import type { CheckpointPosition, SerialPosition } from './names.ts';
import { decodeRetention, encodableRetention, type Retention } from './retention.ts';
import {
  decodeCheckpointPosition,
  decodeSnapshot,
  encodablePosition,
  encodableSnapshot,
  type Snapshot,
} from './snapshot.ts';

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
  readonly head: CheckpointPosition | undefined;
  /**
   * The log says how the map came about only after this segment: at its end, the map was made that of
   * another checkpoint, as by a rollback. Absent for 0: never.
   */
  readonly turnedAt?: number;
  /** Whose the segments before this volume's own are, the oldest first; none unless it is a clone. */
  readonly ancestors: readonly Ancestor[];
  /** Where what is left of moved segments is; none when no segment has been moved. */
  readonly placement: SerialPosition | undefined;
  /** In the order in which they were made. */
  readonly snapshots: readonly Snapshot[];
  /** How long all that was written is kept, to go back to any moment; absent: not at all. */
  readonly retention?: Retention | undefined;
  /** How what is stored is encrypted; absent: not at all. The same for as long as there is the volume. */
  readonly encryption?: Encryption | undefined;
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
    head: encodablePosition(manifest.head),
    turnedAt: manifest.turnedAt ?? 0,
    ancestors: manifest.ancestors,
    placement: manifest.placement ?? null,
    snapshots: manifest.snapshots.map(encodableSnapshot),
    retention: encodableRetention(manifest.retention),
    ...(manifest.encryption === undefined ? {} : { encryption: manifest.encryption }),
    nonce: manifest.nonce,
    // Whoever stores it puts in what authenticates it.
    ...(manifest.encryption === undefined ? {} : { mac: '' }),
  };
  return new TextEncoder().encode(`${JSON.stringify(document, null, 2)}\n`);
}

export function decodeManifest(bytes: Uint8Array): Manifest {
  const fields = new Fields(parseJson(bytes, 'manifest'), 'manifest');
  if (fields.text('format') !== formatName) throw corrupt('not the manifest of a volume');
  const found = fields.count('version');
  if (found !== version)
    throw corrupt(`manifest of version ${found}, this program knows ${version}`);
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
    head: fields.optional('head', decodeCheckpointPosition),
    turnedAt: fields.count('turnedAt', 0),
    ancestors: fields.list('ancestors').map(decodeAncestor),
    placement: fields.optional('placement', decodeSerialPosition),
    snapshots: fields.list('snapshots').map(decodeSnapshot),
    retention: fields.optional('retention', decodeRetention, null),
    ...encryptionIn(fields),
    nonce: fields.text('nonce'),
  };
  requirePlausible(manifest);
  return manifest;
}

function encryptionIn(fields: Fields): Pick<Manifest, 'encryption'> {
  const encryption = fields.optional('encryption', decodeEncryption, null);
  return encryption === undefined ? {} : { encryption };
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
  [...manifest.ancestors, undefined].forEach((ancestor, at) => {
    const before = manifest.ancestors[at - 1];
    const { lastSegment, lastEpoch } = ancestor ?? {
      lastSegment: Infinity,
      lastEpoch: manifest.epoch,
    };
    if (lastSegment < (before?.lastSegment ?? 0) || lastEpoch < (before?.lastEpoch ?? 0))
      throw corrupt('manifest with ancestors out of order');
  });
  const names = new Set(manifest.snapshots.map(({ name }) => name));
  const ids = new Set(manifest.snapshots.map(({ id }) => id));
  if (Math.min(names.size, ids.size) < manifest.snapshots.length)
    throw corrupt('manifest with two snapshots of one name or id');
}

function decodeTenure(value: unknown): Tenure {
  const fields = new Fields(value, 'tenure');
  return { epoch: fields.count('epoch'), lastSegment: fields.count('lastSegment') };
}

function decodeSerialPosition(value: unknown): SerialPosition {
  const fields = new Fields(value, 'placement');
  return { serial: fields.count('serial'), epoch: fields.count('epoch') };
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

/** Stands in the place of the writer while a volume is being deleted: nobody attaches it any more. */
export const deletionWriter: Writer = {
  ...{ id: 'deletion', host: 'a host that deletes it' },
  ...{ lease: 1, leaseMs: 1000 },
};

export function isBeingDeleted({ writer }: Manifest): boolean {
  return writer?.id === deletionWriter.id;
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
