import { segmentBlocks } from '../format/geometry.ts';
import type { CompactionLimits, PassLimits } from './space-settings.ts';

/** An object with data of which some is alive. */
export interface Candidate {
  /** Of the whole object in the store. */
  readonly storedBytes: number;
  /** Blocks of data in it; where that is not known, no more than are alive. */
  readonly blockCount: number | undefined;
  /** Of them those that some map holds; more than none. */
  readonly liveBlocks: number;
}

/** An object of fewer live blocks is small. */
const smallBlocks = Math.floor(segmentBlocks / 8);

/** The part of an object that is alive. */
function liveShare({ blockCount, liveBlocks }: Candidate): number {
  return blockCount === undefined || blockCount === 0 ? 1 : Math.min(1, liveBlocks / blockCount);
}

/** The bytes of an object that its live blocks take: compression is taken for even within it. */
export function liveBytes(object: Candidate): number {
  return object.storedBytes * liveShare(object);
}

/** Objects are told apart by how much of them is alive in so many steps: to sort a million is slow. */
const shares = 1024;

/**
 * Which objects to compact. While dead bytes are few for each live one, none: a share of garbage is
 * what keeps the copying cheap. Above that first those that free most for each byte that must be
 * copied, until few enough are left. And small objects, when there are enough to make large ones of:
 * a trickle of writes, uploaded every few seconds, would else end as thousands of them.
 */
export function chooseObjects<T extends Candidate>(
  objects: readonly T[],
  limits: CompactionLimits,
): T[] {
  const deadAt = new Float64Array(shares + 1);
  let live = 0;
  let dead = 0;
  let smallCount = 0;
  for (const object of objects) {
    const bytes = liveBytes(object);
    live += bytes;
    dead += object.storedBytes - bytes;
    const share = Math.floor(liveShare(object) * shares);
    deadAt[share] = (deadAt[share] as number) + object.storedBytes - bytes;
    if (object.liveBlocks < smallBlocks) smallCount += 1;
  }
  let below = 0;
  const wanted = dead > limits.startShare * live ? dead - limits.stopShare * live : 0;
  for (let freed = 0; freed < wanted && below < shares; below += 1)
    freed += deadAt[below] as number;
  const isMerging = smallCount >= limits.mergeCount;
  return objects.filter(
    (object) =>
      Math.floor(liveShare(object) * shares) < below ||
      (isMerging && object.liveBlocks < smallBlocks),
  );
}

/** What has happened since the last pass over a volume's map. */
export interface SincePass {
  readonly writtenBytes: number;
  readonly segments: number;
  /** Of all pages that a pass reads. */
  readonly mapBytes: number;
  /** All that is stored, as of the last pass. */
  readonly storedBytes: number;
  readonly elapsedMs: number;
}

/** Whether enough was written for what a pass costs, or enough time has gone by. */
export function isPassDue(since: SincePass, limits: PassLimits): boolean {
  if (since.elapsedMs >= limits.longestMs) return true;
  if (since.segments < limits.fewestSegments) return false;
  if (since.mapBytes > since.writtenBytes * limits.mapShare) return false;
  const isMuch = since.writtenBytes >= since.storedBytes * limits.writtenShare;
  return isMuch || since.segments >= limits.manySegments;
}
