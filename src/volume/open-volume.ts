import { dirname } from 'node:path/posix';
import type { Clock } from '../base/clock.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { isStorageError, StorageError, toStorageError } from '../base/errors.ts';
import { blockBytes } from '../format/geometry.ts';
import { epochOfSegment, type Manifest } from '../format/manifest.ts';
import {
  closeBefore,
  loadStoredTail,
  type LocalState,
  localStateOf,
  readLocalState,
  type StoredTail,
  writeLocalState,
} from './attach.ts';
import { BlockMap } from './block-map.ts';
import { findVolumeId } from './catalog.ts';
import { Checkpointer } from './checkpointer.ts';
import { DiskCache } from './disk-cache.ts';
import type { EngineWorkers } from './engine-workers.ts';
import { lastTimeMs, type TimedEntries } from './fold.ts';
import { FrameReader } from './frame-reader.ts';
import { JournalFiles } from './journal-files.ts';
import { LogClock } from './log-clock.ts';
import { blockMemory, entriesOf, replay } from './live-blocks.ts';
import { LiveChanges } from './live-changes.ts';
import {
  closeFiles,
  fileBytesOf,
  type RecoveredJournal,
  recoverJournal,
  reuseJournal,
} from './journal-recovery.ts';
import { loadManifest, Ownership, type OwnershipContext } from './ownership.ts';
import { PageCache } from './page-cache.ts';
import { PageTable } from './page-table.ts';
import { PlacementTable } from './placement-table.ts';
import { storedThrough } from './retention.ts';
import { RetentionKeeper } from './retention-keeper.ts';
import { segmentKey } from '../format/names.ts';
import { lastPass, SpaceKeeper } from './space-keeper.ts';
import { Scrubber } from './scrubber.ts';
import type { SegmentBuffer } from './segment-buffer.ts';
import { SegmentLog } from './segment-log.ts';
import { StoredPlaces } from './segment-places.ts';
import { Snapshots } from './snapshots.ts';
import { type SealedVolume, sealingIn } from './sealing-store.ts';
import type { JournalKeyOf } from './journal-scan.ts';
import { keepAside } from './set-aside.ts';
import type { VolumeSettings } from './settings.ts';
import { type LeaseWatch, type TakeOver, whenFree } from './take-over.ts';
import { Uploader } from './uploader.ts';
import { VolumeReader } from './volume-reader.ts';
import { VolumeWriter } from './volume-writer.ts';
import type { Attachment, VolumeParts } from './volume-parts.ts';
import { Volume } from './volume.ts';

export interface OpenVolumeOptions {
  readonly store: ObjectStore;
  /** The state directory; a volume's journal lies under `volumes/<id>/` in it. */
  readonly disk: LocalDisk;
  readonly workers: EngineWorkers;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly name: string;
  readonly settings: VolumeSettings;
  /** Keeps map pages of its snapshots for those who compare; a small one of its own when not given. */
  readonly pages?: PageCache;
  /** Names the state directory: a volume that it holds can be attached again after a crash. */
  readonly writerId: string;
  /** For people: where the volume is attached. */
  readonly host: string;
  /** What to do when another has the volume; `never` takes it from nobody. */
  readonly takeOver?: TakeOver;
  readonly onWatch?: (watch: LeaseWatch) => void;
  readonly signal?: AbortSignal;
}

/** What was found in the store and the journal, and is now this writer's to go on from. */
interface Attached {
  readonly sealed: SealedVolume;
  readonly ownership: Ownership;
  readonly tail: StoredTail;
  readonly recovered: RecoveredJournal;
}

/**
 * Attaches a volume: takes the epoch, finds the unbroken log in the store and in the journal, closes
 * the older epochs at its end, and serves. Errors: `not-found`, `held`, `corrupt`, those of the store.
 */
export async function openVolume(options: OpenVolumeOptions): Promise<Volume> {
  const volumeId = await findVolumeId(options.store, options.name);
  const directory = `volumes/${volumeId}`;
  const taken = await take(options, volumeId, `${directory}/state.json`);
  // Another's lease may have been watched for long; what is measured is the work.
  const startedMs = options.clock.monotonicMs();
  const { ownership } = taken;
  try {
    const volume = await attach(options, taken, directory, startedMs);
    const { attachment } = volume.statistics();
    options.log.info('volume attached', {
      volume: options.name,
      epoch: ownership.epoch,
      ...attachment,
      tookMs: Math.round(attachment.tookMs),
    });
    return volume;
  } catch (error) {
    // What is not served must not be kept from others by a lease that goes on.
    ownership.end(toStorageError(error));
    throw error;
  }
}

/** A volume that is encrypted is never written in the clear, whatever store was given. */
function requireSealing({ sealing }: SealedVolume, { name, encryption }: Manifest): void {
  if ((encryption === undefined) === (sealing === undefined)) return;
  throw new StorageError('wrong-key', `Volume ${name} is encrypted, and there are no keys here.`);
}

/**
 * What this host has seen of an encrypted volume cannot come undone: its store was set back to an earlier
 * state, or has another volume in its place.
 */
function requireNotSetBack(
  local: LocalState | undefined,
  { name, epoch, encryption }: Manifest,
  statePath: string,
): void {
  if (local?.encrypted !== true || (encryption !== undefined && epoch >= local.epoch)) return;
  const is =
    encryption === undefined
      ? 'is not encrypted, and was when this host had it'
      : `is in the state of epoch ${epoch}, and this host had it in epoch ${local.epoch}`;
  throw new StorageError(
    'corrupt',
    `Volume ${name} ${is}: somebody has set its store back. Bring back the store; or, to take the volume as it is now, move ${dirname(statePath)} of the state directory away, and attach again.`,
  );
}

interface Taken {
  readonly sealed: SealedVolume;
  readonly ownership: Ownership;
  /** What the manifest and the local disk said before. */
  readonly manifest: Manifest;
  readonly local: LocalState | undefined;
}

/** Map pages of snapshots, where no memory is shared. */
const pageCacheBytes = 4 * 2 ** 20;
/** How often a volume is taken from a writer that changes its manifest meanwhile. */
const takeAttempts = 20;

/** Begins the epoch. Its lease is kept alive from now on, however long it takes to find the log. */
async function take(
  options: OpenVolumeOptions,
  volumeId: string,
  statePath: string,
): Promise<Taken> {
  const { store, disk, writerId, host } = options;
  const context: OwnershipContext = options;
  const local = await readLocalState(disk, statePath);
  for (let attempt = 1; ; attempt += 1) {
    const loaded = await whenFree(await loadManifest(store, volumeId), options);
    // Whoever has not the key is told so before anything is changed.
    const sealed = await sealingIn(store, volumeId);
    requireSealing(sealed, loaded.manifest);
    requireNotSetBack(local, loaded.manifest, statePath);
    try {
      const ownership = await Ownership.take(context, loaded, { id: writerId, host });
      ownership.startRenewing();
      reportTakeOver(options, loaded.manifest);
      return { ownership, manifest: loaded.manifest, local, sealed };
    } catch (error) {
      // A writer that lives changes its manifest all the time, and who came first is to be named.
      if (!isStorageError(error, 'conflict') || attempt === takeAttempts) throw error;
    }
  }
}

async function attach(
  options: OpenVolumeOptions,
  { ownership, manifest, local, sealed }: Taken,
  directory: string,
  startedMs: number,
): Promise<Volume> {
  const { store, disk, clock, settings, log } = options;
  const journalPath = `${directory}/journal`;
  const isOpen = local !== undefined && !local.clean;
  const mayReplay = isOpen && manifest.closedThrough < local.epoch;
  const { sealing } = sealed;
  const keyOf: JournalKeyOf =
    sealing === undefined ? undefined : (journal) => sealing.journalKey(journal);
  if (isOpen && !mayReplay)
    await keepAside({ ...options, keyOf }, journalPath, manifest, local.epoch);
  const state = localStateOf(ownership.manifest, false);
  await writeLocalState(disk, `${directory}/state.json`, state);
  const tail = await loadStoredTail(store, ownership.manifest, settings.getConcurrency);
  const recovered = mayReplay
    ? await recoverJournal({
        disk,
        directory: journalPath,
        volumeId: manifest.id,
        lastStored: tail.lastSegment,
        log,
        nowMs: clock.monotonicMs(),
        wallMs: clock.wallMs(),
        keyOf,
      })
    : {
        segments: [],
        free: await reuseJournal(disk, journalPath, fileBytesOf(keyOf !== undefined)),
      };
  try {
    await closeBefore(ownership, tail, recovered.segments, log);
    return await serve(options, { ownership, tail, recovered, sealed }, directory, startedMs);
  } catch (error) {
    // Clients ask again and again for what cannot be attached: nothing of it may stay open.
    await closeFiles([...recovered.free, ...recovered.segments.map(({ file }) => file)]);
    throw error;
  }
}

async function serve(
  options: OpenVolumeOptions,
  attached: Attached,
  directory: string,
  startedMs: number,
): Promise<Volume> {
  const { store, disk, settings } = options;
  const { ownership, tail, recovered } = attached;
  const { manifest } = ownership;
  const table = await PageTable.load(store, manifest, manifest.head);
  const places = new StoredPlaces({
    store,
    lineage: () => ownership.manifest,
    placement: await PlacementTable.load(store, manifest.id, manifest.placement),
    isChangedByOthers: false,
    epochOf: (segment) => epochOfSegment(ownership.manifest, segment),
  });
  const map = new BlockMap((pageIndex) => table.has(pageIndex));
  for (const segment of tail.segments) replay(map, segment.segment, segment.entries);
  for (const segment of recovered.segments) replay(map, segment.number, entriesOf(segment));
  const diskCache = await DiskCache.open(
    ...([disk, `${directory}/cache`, settings.diskCacheBytes] as const),
    attached.sealed.sealing?.passingKey(),
  );
  const attachment: Attachment = {
    tookMs: options.clock.monotonicMs() - startedMs,
    storedTailSegments: tail.segments.length,
    recoveredSegments: recovered.segments.length,
    recoveredBytes:
      recovered.segments.reduce((sum, { blockCount }) => sum + blockCount, 0) * blockBytes,
  };
  const scrubber = await Scrubber.open({
    ...options,
    volumeId: manifest.id,
    volumeName: options.name,
    statePath: `${directory}/scrub.json`,
  });
  const passedMs = await lastPass(disk, `${directory}/space.json`, options.clock.wallMs());
  const found = { ...attached, attachment, scrubber, places, passedMs };
  return assemble(options, found, map, table, diskCache, directory);
}

/** Says whose volume this was, and what may be missing from it. */
function reportTakeOver({ log, writerId }: OpenVolumeOptions, before: Manifest): void {
  const { writer, name, epoch } = before;
  if (writer === undefined || writer.id === writerId) return;
  log.warn('volume taken over: what its writer had answered and not yet uploaded is not in it', {
    volume: name,
    from: writer.host,
    epoch,
  });
}

function journalFiles(
  { disk, settings }: OpenVolumeOptions,
  { recovered: { segments, free }, sealed }: Attached,
  directory: string,
): JournalFiles {
  const used = segments.map((segment) => segment.file);
  const fileBytes = fileBytesOf(sealed.sealing !== undefined);
  return new JournalFiles(disk, directory, fileBytes, settings.journalBytes, used, free);
}

/** The last time that anything of the volume bears: what is written from now on is not before it. */
function lastLogTimeMs({ ownership, tail, recovered }: Attached, table: PageTable): number {
  const last = tail.segments.at(-1);
  return Math.max(
    table.timeMs,
    last === undefined ? 0 : lastTimeMs(last),
    recovered.segments.at(-1)?.lastTimeMs ?? 0,
    ownership.manifest.retention?.storedThroughMs ?? 0,
    ownership.manifest.retention?.turns.at(-1)?.timeMs ?? 0,
  );
}

/** What gives back the space of what is dead. */
function spaceOf(
  options: OpenVolumeOptions,
  attached: Attached & Pick<VolumeParts, 'places'> & { readonly passedMs: number },
  uploader: Uploader,
  checkpointer: Checkpointer,
  times: LogClock,
): SpaceKeeper {
  const { store, clock, random, log, workers, settings, disk } = options;
  const { ownership, places, passedMs, sealed } = attached;
  const { id: volumeId, codec } = ownership.manifest;
  const context = {
    ...{ store, clock, random, log, workers, settings, volumeId, ownership, codec, disk, places },
    ...{ sealing: sealed.sealing, sealedStore: sealed.store },
    volumeName: options.name,
    statePath: `volumes/${volumeId}/space.json`,
    uploaded: () => ({ bytes: uploader.uploadedBytes, segments: uploader.uploadedSegments }),
    isBusy: () => uploader.backlog.waiting > 0,
    checkpointer,
    nowMs: () => times.nowMs(),
    checkpoint: () => checkpointer.checkpoint(),
  };
  return new SpaceKeeper(context, passedMs);
}

function readerOf(
  { name, settings }: OpenVolumeOptions,
  parts: Pick<VolumeParts, 'ownership' | 'map' | 'memory' | 'cache' | 'frames' | 'checkpointer'>,
): VolumeReader {
  const { ownership, map, memory, cache, frames, checkpointer } = parts;
  return new VolumeReader({
    ...{ volume: name, map, memory, cache, frames },
    sizeBytes: () => ownership.manifest.sizeBytes,
    readaheadBytes: Math.min(settings.readaheadBytes, Math.floor(settings.cacheBytes / 4)),
    readPage: (pageIndex) => checkpointer.pageTable.readPage(pageIndex),
  });
}

function timedEntriesOf(segment: SegmentBuffer, epoch: number): TimedEntries {
  const { number, header } = segment;
  return { segment: number, epoch, entries: entriesOf(segment), openedMs: header.openedMs };
}

/** Makes the parts and connects what each tells the others. */
function assemble(
  options: OpenVolumeOptions,
  attached: Attached &
    Pick<VolumeParts, 'attachment' | 'scrubber' | 'places'> & { readonly passedMs: number },
  map: BlockMap,
  table: PageTable,
  diskCache: DiskCache | undefined,
  directory: string,
): Volume {
  const { store, clock, random, log, workers, settings, disk } = options;
  const { ownership, tail, recovered, places } = attached;
  const { id: volumeId, codec, durability } = ownership.manifest;
  const { epoch } = ownership;
  const files = journalFiles(options, attached, `${directory}/journal`);
  const { cache, memory } = blockMemory(map, settings);
  const onFailure = (error: StorageError): void => volume.stopWriting(error);
  const times = new LogClock(clock, log, lastLogTimeMs(attached, table));
  const segments = new SegmentLog(
    {
      ...{ ...attached.sealed, clock, settings, volumeId, epoch, memory, files, times },
      keepsFlushTimes: () => ownership.manifest.retention !== undefined,
    },
    recovered.segments,
    tail.lastSegment + recovered.segments.length,
    (segment) => uploader.add(segment),
    onFailure,
  );
  const frames = new FrameReader({
    ...{ store, clock, diskCache, places, journaled: segments.segments },
  });
  const checkpointer = new Checkpointer(
    {
      ...{ store, clock, random, log, workers, settings, volumeId, ownership },
      onHead: () => retention.look(),
    },
    table,
    tail.segments,
  );
  const uploader = new Uploader(
    {
      ...{ ...attached.sealed, clock, random, log, workers, settings, volumeId, epoch, codec },
      keepsReplaced: () => ownership.manifest.retention !== undefined,
    },
    tail.lastSegment,
    {
      share: () => files.usedCount / files.capacity,
      hasFreeFile: () => files.isReady,
      writtenBytes: () => segments.writtenBytes,
    },
    {
      onTable: (segment, frameTable) => {
        frames.learnTable(segment, frameTable);
        space.learn(segmentKey(volumeId, { segment, epoch }), frameTable.blockCount);
      },
      onCommitted: (segment) => {
        const committed = timedEntriesOf(segment, epoch);
        segments.committed(segment);
        checkpointer.committed(committed);
      },
      onFailure,
    },
  );
  const retention = new RetentionKeeper({
    ...{ store, clock, log, settings, ownership, times },
    lastIncomplete: () => uploader.lastIncomplete,
    headTimeMs: () => checkpointer.pageTable.timeMs,
  });
  const space = spaceOf(options, attached, uploader, checkpointer, times);
  const reader = readerOf(options, { ownership, map, memory, cache, frames, checkpointer });
  const pages = options.pages ?? new PageCache(pageCacheBytes);
  const changes = new LiveChanges({
    ...{ store, clock, ownership, map, checkpointer, reader, pages },
  });
  const writer = new VolumeWriter({
    map,
    log: segments,
    read: (offset, into) => reader.read(offset, into),
    requireWritable: () => volume.requireWritable(),
  });
  const snapshots = new Snapshots({
    ...{ clock, random, log, settings, ownership, segments, uploader, checkpointer },
  });
  const parts: VolumeParts = {
    ...{ clock, log, disk, ownership, map, memory, cache, diskCache, frames, files, segments },
    ...{ store, times, uploader, checkpointer, retention, snapshots, reader, changes, writer },
    ...{ settings, random, workers },
    ending: () => volume.ending,
    statePath: `${directory}/state.json`,
    durability: settings.durability ?? durability,
    attachment: attached.attachment,
    ...{ places, space, scrubber: attached.scrubber },
  };
  const volume = new Volume(parts);
  ownership.whenLost((error) => volume.lose(error));
  ownership.whenChanging((manifest) => storedThrough(manifest, segments.storedThroughMs));
  retention.start();
  for (const segment of recovered.segments) uploader.add(segment);
  snapshots.start();
  return volume;
}
