import { type StorageError, toStorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import { compactedKey } from '../format/names.ts';
import type { Checkpointer } from './checkpointer.ts';
import { Collector } from './collector.ts';
import { isPassDue, liveBytes } from './compaction-choice.ts';
import { Compactor, type CompactorContext } from './compactor.ts';
import {
  type Flattened,
  type FlattenOptions,
  type FlattenProgress,
  Flattener,
} from './flattener.ts';
import type { Ownership } from './ownership.ts';
import { Pacer } from './pacer.ts';
import { Placer, type PlacerContext } from './placer.ts';
import { chooseFrom, type Found, lookForSpace, type SpacePassContext } from './space-pass.ts';

export interface SpaceKeeperContext
  extends PlacerContext,
    Omit<CompactorContext, 'placer' | 'pacer'> {
  readonly disk: LocalDisk;
  readonly volumeName: string;
  readonly ownership: Ownership;
  /** Where the time of the last pass is kept. */
  readonly statePath: string;
  /** What was put into the store by uploads, ever. */
  readonly uploaded: () => { readonly bytes: number; readonly segments: number };
  /** Whether uploads wait for their turn: what clients write goes first. */
  readonly isBusy: () => boolean;
  readonly checkpointer: Pick<Checkpointer, 'pageTable' | 'storeAnew'>;
  /** The time now, as the log of the volume has it. */
  readonly nowMs: () => number;
  /** Makes a checkpoint of what is committed. */
  readonly checkpoint: () => Promise<void>;
}

/** What is known of the space that a volume takes in the store. */
export interface SpaceStatus {
  readonly running: boolean;
  /** As the last pass found it; 0 before the first. */
  readonly storedBytes: number;
  readonly liveBytes: number;
  /** In objects that something alive is in. */
  readonly deadBytes: number;
  /** Of objects that wait to be deleted. */
  readonly waitingBytes: number;
  /** Since the volume was attached: read for compaction, put into the store by it, deleted. */
  readonly compactedBytes: number;
  readonly movedBytes: number;
  readonly deletedBytes: number;
  readonly deletedObjects: number;
  readonly passes: number;
  /** When the last one ended, 1970 for never. */
  readonly endedMs: number;
  /** While the volume is being flattened: how far that is. */
  readonly flattening: FlattenProgress | undefined;
}

export const nothingKept: SpaceStatus = {
  running: false,
  storedBytes: 0,
  liveBytes: 0,
  deadBytes: 0,
  waitingBytes: 0,
  compactedBytes: 0,
  movedBytes: 0,
  deletedBytes: 0,
  deletedObjects: 0,
  passes: 0,
  endedMs: 0,
  flattening: undefined,
};

export interface PassOptions {
  /** How long what is found dead stays; as it is set, when not given. */
  readonly graceMs?: number | undefined;
  /** Whether to go down to the few dead bytes at which compaction else stops. */
  readonly isThorough?: boolean;
}

/**
 * Gives back the space of what is dead: looks now and then, when enough was written for it, at what
 * is alive, moves that together where it is worth it, and deletes the rest. All beside what the
 * volume does for its clients.
 */
export class SpaceKeeper {
  readonly placer: Placer;
  private readonly context: SpaceKeeperContext;
  private readonly pacer: Pacer;
  private readonly compactor: Compactor;
  private readonly collector: Collector;
  private readonly blockCounts = new Map<string, number>();
  private running: Promise<void> | undefined;
  private flattener: Flattener | undefined;
  private flattening: Promise<Flattened> | undefined;
  private cancelTimer: (() => void) | undefined;
  private status: Pick<
    SpaceStatus,
    'storedBytes' | 'liveBytes' | 'deadBytes' | 'passes' | 'endedMs'
  >;
  private since: { bytes: number; segments: number; mapBytes: number; storedBytes: number };

  /** `endedMs`: when the last pass ended, as `lastPass` tells. */
  constructor(context: SpaceKeeperContext, endedMs: number) {
    this.context = context;
    const { clock, settings } = context;
    this.pacer = new Pacer(clock, () => this.bytesPerSecond());
    this.placer = new Placer(context);
    this.compactor = new Compactor({ ...context, placer: this.placer, pacer: this.pacer });
    this.collector = new Collector({ ...context, placer: this.placer });
    this.status = { storedBytes: 0, liveBytes: 0, deadBytes: 0, passes: 0, endedMs };
    const mapBytes = context.checkpointer.pageTable.storedBytes;
    this.since = { bytes: 0, segments: 0, mapBytes, storedBytes: Number.POSITIVE_INFINITY };
    if (settings.space.bytesPerSecond > 0) this.schedule();
  }

  get statistics(): SpaceStatus {
    const { compactor, collector, placer, status } = this;
    return {
      ...status,
      running: this.running !== undefined,
      waitingBytes: collector.waitingBytes,
      compactedBytes: compactor.readBytes,
      movedBytes: placer.storedBytes,
      deletedBytes: collector.deletedBytes,
      deletedObjects: collector.deletedObjects,
      flattening: this.flattener?.progress,
    };
  }

  /** How many blocks a segment has that was uploaded just now. */
  learn(key: string, blockCount: number): void {
    this.blockCounts.set(key, blockCount);
  }

  private bytesPerSecond(): number {
    const { settings, isBusy } = this.context;
    // Where nothing is done by itself, what is asked for is done at once.
    const rate = settings.space.bytesPerSecond || Number.POSITIVE_INFINITY;
    // What is dead must not outgrow what is moved away from it: it is slowed down, never held up.
    const isMuchDead = this.status.deadBytes > this.status.liveBytes / 2;
    return isBusy() && !isMuchDead ? rate / 4 : rate;
  }

  /** Looks now, or goes on with the look that is under way. */
  pass(options: PassOptions = {}): Promise<void> {
    this.running ??= this.run(options).finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  /** Makes a clone independent of its ancestors, or goes on with that; passes go on beside it. */
  flatten(options: FlattenOptions): Promise<Flattened> {
    const { context, placer, pacer } = this;
    this.flattener ??= new Flattener({ ...context, placer, pacer });
    this.flattening ??= this.flattener.run(options).finally(() => {
      this.flattener = undefined;
      this.flattening = undefined;
    });
    return this.flattening;
  }

  private async run({ graceMs, isThorough = false }: PassOptions): Promise<void> {
    const { context, placer, compactor, collector, blockCounts } = this;
    const { settings, places, ownership, uploaded, clock } = context;
    const space = settings.space;
    await context.checkpoint();
    this.pacer.requireGoing();
    const before = uploaded();
    const { placement } = places;
    const manifest = await ownership.fresh();
    const looking: SpacePassContext = { ...context, space, placer, blockCounts };
    const found = await lookForSpace(looking, manifest, placement);
    this.pacer.requireGoing();
    this.note(found, before);
    const grace = graceMs ?? space.graceMs;
    collector.condemn(found.garbage, found.roots, grace);
    const without = compactor.takeDamaged();
    const { stopShare } = space.limits;
    const limits = isThorough ? { ...space.limits, startShare: stopShare } : space.limits;
    const { objects, marks } = await chooseFrom(looking, manifest, found, {
      ...{ limits, without },
    });
    const sizes = new Map(found.live.map(({ key, storedBytes }) => [key, storedBytes]));
    const condemn = (keys: readonly string[]): void => {
      const emptied = new Map(keys.map((key) => [key, sizes.get(key) ?? 0]));
      collector.condemn(emptied, found.roots, grace);
    };
    await this.dropDeadRows(found, condemn);
    await compactor.compact(objects, marks, condemn);
    condemn(placer.takeReplaced());
    this.status = {
      ...this.status,
      passes: this.status.passes + 1,
      endedMs: Math.floor(clock.wallMs()),
    };
    await collector.collect();
    await this.remember();
  }

  /** Segments of which nothing is left leave the placement, and with them objects that nothing is in. */
  private async dropDeadRows(
    found: Found,
    condemn: (keys: readonly string[]) => void,
  ): Promise<void> {
    if (found.deadRows.length === 0) return;
    const { places, volumeId } = this.context;
    const before = places.placement;
    await this.placer.move(new Map(found.deadRows.map((segment) => [segment, undefined])));
    const emptied = new Set<string>();
    for (const segment of found.deadRows) {
      const at = before.find(segment);
      if (at !== undefined && !places.placement.names(at)) emptied.add(compactedKey(volumeId, at));
    }
    condemn([...emptied]);
  }

  private note(found: Found, uploaded: { bytes: number; segments: number }): void {
    const live = found.live.reduce((sum, object) => sum + liveBytes(object), 0);
    const stored = found.live.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    const { storedBytes, mapBytes } = found;
    this.since = { ...uploaded, mapBytes, storedBytes };
    this.status = {
      ...this.status,
      storedBytes,
      liveBytes: Math.round(live),
      deadBytes: Math.round(stored - live),
    };
  }

  private isDue(): boolean {
    const { clock, settings, uploaded } = this.context;
    const { bytes, segments } = uploaded();
    const { since } = this;
    return isPassDue(
      {
        writtenBytes: bytes - since.bytes,
        segments: segments - since.segments,
        mapBytes: since.mapBytes,
        storedBytes: since.storedBytes,
        elapsedMs: clock.wallMs() - this.status.endedMs,
      },
      settings.space.pass,
    );
  }

  private schedule(): void {
    const { clock, settings } = this.context;
    this.cancelTimer = clock.after(settings.space.lookMs, () => {
      this.look()
        .catch((error: unknown) => this.tell(toStorageError(error)))
        .finally(() => {
          if (!this.pacer.isStopped) this.schedule();
        });
    });
  }

  private async look(): Promise<void> {
    if (this.isDue()) return this.pass();
    if (!this.collector.isDue) return;
    await this.collector.collect();
    await this.remember();
  }

  private tell(error: StorageError): void {
    if (this.pacer.isStopped) return;
    const { log, volumeName: volume, clock, settings } = this.context;
    log.warn('space was not given back; another look follows', { volume, error: error.message });
    // Not at once: what kept this one from its end may still be there.
    const { longestMs } = settings.space.pass;
    const endedMs = Math.max(
      this.status.endedMs,
      clock.wallMs() - longestMs + settings.space.lookMs * 8,
    );
    this.status = { ...this.status, endedMs };
  }

  private async remember(): Promise<void> {
    const { disk, statePath, log, volumeName: volume, clock, settings } = this.context;
    // What waits to be deleted is forgotten with this process: whoever attaches next looks soon.
    const dueMs = Math.max(0, Math.floor(clock.wallMs()) - settings.space.pass.longestMs);
    const isDone = this.collector.waitingBytes === 0;
    try {
      await writeLastPass(disk, statePath, isDone ? this.status.endedMs : dueMs);
    } catch (error) {
      // It is known until the daemon ends; a volume can do without more.
      const { message } = toStorageError(error);
      log.warn('the time of the last look for space was not kept', { volume, error: message });
    }
  }

  /** Ends what is under way at its next request, for `reason`; resolves when it has ended. */
  async end(reason: StorageError): Promise<void> {
    this.pacer.stop();
    this.placer.end(reason);
    this.cancelTimer?.();
    await this.collector.stop();
    await this.running?.catch(() => undefined);
    await this.flattening?.catch(() => undefined);
  }
}

/** When the last pass over a volume ended that was attached here; now, if none is known of. */
export async function lastPass(disk: LocalDisk, path: string, wallMs: number): Promise<number> {
  const known = decodeEnd(await disk.readFile(path));
  if (known !== undefined) return known;
  await writeLastPass(disk, path, Math.floor(wallMs));
  return Math.floor(wallMs);
}

async function writeLastPass(disk: LocalDisk, path: string, endedMs: number): Promise<void> {
  await disk.replaceFile(path, new TextEncoder().encode(`${JSON.stringify({ endedMs })}\n`));
}

/** What is not there, or not what it should be, is no reason not to attach a volume. */
function decodeEnd(bytes: Uint8Array | undefined): number | undefined {
  try {
    if (bytes === undefined) return undefined;
    return new Fields(parseJson(bytes, 'space.json'), 'space.json').count('endedMs');
  } catch {
    return undefined;
  }
}
