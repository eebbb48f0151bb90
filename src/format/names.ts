import { StorageError } from '../base/errors.ts';
import { corrupt } from './binary.ts';

/**
 * Keys of everything in a store. Numbers are eight hexadecimal digits, so that a listing gives them
 * in order and one that starts after the checkpoint's segment returns only the tail of the log.
 */
export const namesPrefix = 'names/';
export const volumesPrefix = 'volumes/';

export interface LogPosition {
  /** Number of the segment; the first of a volume is 1. */
  readonly segment: number;
  /** Epoch of the writer that made it. */
  readonly epoch: number;
}

/** Which checkpoint; two of one segment and epoch differ in their variant. */
export interface CheckpointPosition extends LogPosition {
  /**
   * 0: the fold of the log up to the end of the segment. Others were made of another checkpoint, as
   * for a rollback: the how-manieth of its epoch it is, from 1, up to `maximumVariant`.
   */
  readonly variant: number;
}

/** Which compacted object or placement; each kind counts them anew in each epoch. */
export interface SerialPosition {
  /** From 1. */
  readonly serial: number;
  /** Epoch of the writer that made it. */
  readonly epoch: number;
}

export const maximumVariant = 0xffff;
/** A checkpoint writes fewer objects with pages than this. */
const partsPerVariant = 0x1_0000;

export function nameKey(name: string): string {
  return `${namesPrefix}${name}`;
}

export function volumePrefix(volumeId: string): string {
  return `${volumesPrefix}${volumeId}/`;
}

export function manifestKey(volumeId: string): string {
  return `${volumePrefix(volumeId)}manifest.json`;
}

export function segmentsPrefix(volumeId: string): string {
  return `${volumePrefix(volumeId)}segments/`;
}

export function segmentKey(volumeId: string, at: LogPosition): string {
  return `${segmentsPrefix(volumeId)}${hex8(at.segment)}-${hex8(at.epoch)}`;
}

/** A key before that of every epoch of the segments after `segment`, and after all up to it. */
export function afterSegmentKey(volumeId: string, segment: number): string {
  return `${segmentsPrefix(volumeId)}${hex8(segment)}-g`;
}

export function checkpointsPrefix(volumeId: string): string {
  return `${volumePrefix(volumeId)}checkpoints/`;
}

/** A key before that of every checkpoint of the segments after `segment`, and after all up to it. */
export function afterCheckpointKey(volumeId: string, segment: number): string {
  return `${checkpointsPrefix(volumeId)}${hex8(segment)}-g`;
}

export function checkpointKey(volumeId: string, at: CheckpointPosition): string {
  const variant = at.variant === 0 ? '' : `-${hex8(at.variant)}`;
  return `${checkpointsPrefix(volumeId)}${hex8(at.segment)}-${hex8(at.epoch)}${variant}`;
}

/** The first part of the objects with map pages that a checkpoint writes. */
export function firstPartOf(at: CheckpointPosition): number {
  return at.variant * partsPerVariant;
}

/** The variant of the checkpoint that wrote this part. */
export function variantOfPart(part: number): number {
  return Math.floor(part / partsPerVariant);
}

/** One of the objects with map pages that a checkpoint wrote; `part` counts from its first one. */
export function pagesKey(volumeId: string, at: LogPosition, part: number): string {
  return `${volumePrefix(volumeId)}pages/${hex8(at.segment)}-${hex8(at.epoch)}-${hex8(part)}`;
}

/** An object with what is left of several segments. */
export function compactedKey(volumeId: string, at: SerialPosition): string {
  return `${compactedPrefix(volumeId)}${hex8(at.serial)}-${hex8(at.epoch)}`;
}

export function compactedPrefix(volumeId: string): string {
  return `${volumePrefix(volumeId)}compacted/`;
}

/** Which compacted object has what is left of each segment that was moved. */
export function placementKey(volumeId: string, at: SerialPosition): string {
  return `${volumePrefix(volumeId)}placements/${hex8(at.serial)}-${hex8(at.epoch)}`;
}

/** What `segmentKey` encoded. */
export function parseSegmentKey(volumeId: string, key: string): LogPosition {
  const found = parseVolumeKey(volumeId, key);
  if (found?.kind !== 'segment') throw corrupt(`not the key of a segment: ${key}`);
  return found.at;
}

/** What a key under a volume's prefix names. */
export type VolumeKey =
  | { readonly kind: 'manifest' }
  | { readonly kind: 'segment'; readonly at: LogPosition }
  | { readonly kind: 'checkpoint'; readonly at: CheckpointPosition }
  | { readonly kind: 'pages'; readonly at: LogPosition; readonly part: number }
  | { readonly kind: 'compacted'; readonly at: SerialPosition }
  | { readonly kind: 'placement'; readonly at: SerialPosition };

/** What `key` names of the volume, or `undefined` when nothing of ours is called so. */
export function parseVolumeKey(volumeId: string, key: string): VolumeKey | undefined {
  if (key === manifestKey(volumeId)) return { kind: 'manifest' };
  const prefix = volumePrefix(volumeId);
  const pattern = /^([a-z]+)\/([0-9a-f]{8})-([0-9a-f]{8})(?:-([0-9a-f]{8}))?$/;
  const match = key.startsWith(prefix) ? pattern.exec(key.slice(prefix.length)) : null;
  if (match === null) return undefined;
  const [, kind = '', ...numbers] = match;
  const [first = 0, epoch = 0, third] = numbers
    .filter((digits) => digits !== undefined)
    .map((digits) => Number.parseInt(digits, 16));
  return keyOf(kind, first, epoch, third);
}

function keyOf(
  kind: string,
  first: number,
  epoch: number,
  third: number | undefined,
): VolumeKey | undefined {
  const at = { segment: first, epoch };
  if (kind === 'pages') return third === undefined ? undefined : { kind, at, part: third };
  // Variant 0 has no third number: one checkpoint has one key.
  if (kind === 'checkpoints')
    return third === 0 ? undefined : { kind: 'checkpoint', at: { ...at, variant: third ?? 0 } };
  if (third !== undefined) return undefined;
  if (kind === 'segments') return { kind: 'segment', at };
  if (kind === 'compacted') return { kind, at: { serial: first, epoch } };
  return kind === 'placements' ? { kind: 'placement', at: { serial: first, epoch } } : undefined;
}

function hex8(value: number): string {
  return value.toString(16).padStart(8, '0');
}

/** Names of volumes and snapshots: 1 to 64 of `A-Z a-z 0-9 . _ -`, first a letter or digit. */
export const volumeNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export function requireVolumeName(name: string): string {
  return requireName(name, 'a volume');
}

export function requireSnapshotName(name: string): string {
  return requireName(name, 'a snapshot');
}

function requireName(name: string, what: string): string {
  if (!volumeNamePattern.test(name)) {
    throw new StorageError(
      'usage',
      `"${name}" cannot name ${what}: use 1 to 64 letters, digits, ".", "_" or "-", beginning with a letter or digit`,
    );
  }
  return name;
}
