import type { Manifest } from '../format/manifest.ts';
import type { CheckpointPosition } from '../format/names.ts';
import type { KeptFrom, Retention } from '../format/retention.ts';

/** The retention of a volume that nothing was ever written to. */
export function retentionFromBirth(retainMs: number, nowMs: number): Retention {
  return { ...retentionFromNow(retainMs), keptFrom: { checkpoint: undefined, timeMs: nowMs } };
}

/** That of a volume that was written without: what is kept from where on, its writer will say. */
function retentionFromNow(retainMs: number): Retention {
  return { retainMs, keptFrom: undefined, storedThroughMs: 0, turns: [], formerSizes: [] };
}

/** Keeps what is written for so long, or not at all any more (0). What is kept already stays that. */
export function withRetention(manifest: Manifest, retainMs: number): Manifest {
  if (retainMs === (manifest.retention?.retainMs ?? 0)) return manifest;
  if (retainMs === 0) return { ...manifest, retention: undefined };
  const retention = { ...(manifest.retention ?? retentionFromNow(retainMs)), retainMs };
  return { ...manifest, retention };
}

/** The segment that a state is the end of; 0 for the empty map. */
export function segmentOf(checkpoint: CheckpointPosition | undefined): number {
  return checkpoint?.segment ?? 0;
}

/** Begins to keep everything from this state on, unless that is done already. */
export function keepFrom(manifest: Manifest, keptFrom: KeptFrom): Manifest {
  const { retention } = manifest;
  if (retention === undefined || retention.keptFrom !== undefined) return manifest;
  return { ...manifest, retention: { ...retention, keptFrom } };
}

/** Keeps only what follows a later state. */
export function keepLess(manifest: Manifest, keptFrom: KeptFrom): Manifest {
  const { retention } = manifest;
  if (retention?.keptFrom === undefined || retention.keptFrom.timeMs >= keptFrom.timeMs)
    return manifest;
  const isKept = ({ timeMs }: { readonly timeMs: number }): boolean => timeMs > keptFrom.timeMs;
  const turns = retention.turns.filter(isKept);
  const formerSizes = retention.formerSizes.filter(isKept);
  return { ...manifest, retention: { ...retention, keptFrom, turns, formerSizes } };
}

/** Keeps only what follows this state: what was kept of earlier ones cannot be had any more. */
export function keepOnlyFrom(manifest: Manifest, keptFrom: KeptFrom): Manifest {
  const { retention } = manifest;
  if (retention === undefined) return manifest;
  const formerSizes = retention.formerSizes.filter(({ timeMs }) => timeMs > keptFrom.timeMs);
  const kept = retention.keptFrom === undefined ? {} : { keptFrom, formerSizes };
  return { ...manifest, retention: { ...retention, ...kept, turns: [] } };
}

/** All that was answered before `timeMs` is in the store. */
export function storedThrough(manifest: Manifest, timeMs: number): Manifest {
  const { retention } = manifest;
  if (retention === undefined) return manifest;
  const storedThroughMs = Math.max(retention.storedThroughMs, timeMs);
  return { ...manifest, retention: { ...retention, storedThroughMs } };
}

/**
 * The map is that of another checkpoint from `timeMs` on. To be said in the same change as the new
 * head: whoever goes back to a later moment begins from there.
 */
export function turned(
  manifest: Manifest,
  checkpoint: CheckpointPosition | undefined,
  segment: number,
  timeMs: number,
): Manifest {
  const { retention } = manifest;
  if (retention === undefined) return manifest;
  const turns = [...retention.turns, { segment, checkpoint, timeMs }];
  return { ...manifest, retention: { ...retention, turns } };
}

/** The volume becomes smaller at that time. To be said in the same change as its new size. */
export function cutOff(manifest: Manifest, sizeBytes: number, timeMs: number): Manifest {
  const { retention } = manifest;
  if (retention === undefined) return { ...manifest, sizeBytes };
  const formerSizes = [...retention.formerSizes, { sizeBytes: manifest.sizeBytes, timeMs }];
  return { ...manifest, sizeBytes, retention: { ...retention, formerSizes } };
}

/** How large a volume is as of a time: large enough for all that was in it. */
export function sizeAsOf({ sizeBytes, retention }: Manifest, timeMs: number): number {
  const former = retention?.formerSizes.filter((each) => each.timeMs >= timeMs) ?? [];
  return Math.max(sizeBytes, ...former.map((each) => each.sizeBytes));
}

/** Whether more is kept than was asked for, by enough to be worth looking for what can go. */
export function isFloorDue({ keptFrom, retainMs }: Retention, nowMs: number): boolean {
  return keptFrom !== undefined && nowMs - keptFrom.timeMs > retainMs + retainMs / 16;
}
