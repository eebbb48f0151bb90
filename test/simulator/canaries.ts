import { type PlantedBug, planted } from './planted.ts';
import { cloneBugs } from './clone-canaries.ts';
import { flattenBugs } from './flatten-canaries.ts';
import { snapshotBugs } from './snapshot-canaries.ts';
import { versionBugs } from './version-canaries.ts';
import { timeBugs } from './time-canaries.ts';
import { sealingBugs } from './sealing-canaries.ts';
import { spaceBugs } from './space-canaries.ts';

/** One for each promise, and those that were really there once; each says what it breaks. */
export const plantedBugs: readonly PlantedBug[] = [
  planted(
    'what a checkpoint holds is looked for under an epoch that never wrote it',
    200,
    'volume/attach.ts',
    'let openEpoch = head > closed ? manifest.head?.epoch : undefined;',
    'let openEpoch: number | undefined;',
  ),
  planted(
    'a manifest change that was given up and then done is taken for another host’s',
    4000,
    'volume/ownership.ts',
    'this.requireOurs(found.manifest);\n      this.current = found;',
    'throw this.lost(found.manifest);',
  ),
  planted(
    'a flush is answered before the sync',
    200,
    'volume/journal.ts',
    'await Promise.all(unsynced.map((segment) => segment.file.file.sync()));',
    'void Promise.all(unsynced.map((segment) => segment.file.file.sync()));',
  ),
  planted(
    'a batch that a flush waits for is written, but not durably',
    200,
    'volume/journal.ts',
    'durably ? file.writeDurably([bytes], position) : file.write([bytes], position)',
    'file.write([bytes], position)',
  ),
  planted(
    'what a closed epoch left past its end is read',
    500,
    'volume/attach.ts',
    'at.epoch > manifest.closedThrough && at.epoch <= manifest.epoch',
    'at.epoch <= manifest.epoch',
  ),
  planted(
    'a flush to the store does not ask whether the volume is still ours',
    1000,
    'volume/volume.ts',
    'await this.parts.ownership.confirm();',
    '',
  ),
  planted(
    'a flush to the store waits for its own segment, not for those before it',
    1000,
    'volume/uploader.ts',
    'if (waiter.number <= this.committed) waiter.resolve();',
    'if (waiter.number <= this.committed || this.stored.has(waiter.number)) waiter.resolve();',
  ),
  planted(
    'a journal file is used again before its segment is in the store',
    200,
    'volume/uploader.ts',
    'const attempts = await this.put(key, packed.body);',
    'const attempts = 2; void this.put(key, packed.body).catch(() => undefined);',
  ),
  planted(
    'the head moves before the checkpoint is stored',
    500,
    'volume/stored-fold.ts',
    'await put(checkpointKey(volumeId, at), [object]);',
    'void put(checkpointKey(volumeId, at), [object]).catch(() => undefined);',
  ),
  planted(
    'a journal is replayed although another host has gone on without it',
    200,
    'volume/open-volume.ts',
    'const mayReplay = isOpen && manifest.closedThrough < local.epoch;',
    'const mayReplay = isOpen;',
  ),
  planted(
    'a torn record is taken for whole',
    100,
    'volume/journal-scan.ts',
    'if (recordChecksum(records, at, seed, blockChecksums) !== expected) return false;',
    'if (expected === 0) return false;',
  ),
  planted(
    'recovery goes on past a segment that is not whole',
    3000,
    'volume/journal-recovery.ts',
    'if (previous !== undefined && previous.entryCount !== header.previousEntries) break;',
    '',
  ),
  {
    name: 'a swap whose answer was lost is taken for another host’s',
    seeds: 500,
    patches: [
      {
        file: 'volume/ownership.ts',
        find: 'if (found.manifest.nonce === tried.nonce) {',
        put: 'if (found.manifest.nonce === tried.nonce && found.manifest.epoch < 0) {',
      },
      {
        file: 'volume/ownership.ts',
        find: 'this.requireOurs(found.manifest);\n      this.current = found;',
        put: 'throw this.lost(found.manifest);',
      },
    ],
  },
  planted(
    'a swap whose answer was lost is taken for done when the epoch is the same',
    1000,
    'volume/ownership.ts',
    'if (found.manifest.nonce === tried.nonce) {',
    'if (found.manifest.epoch === tried.epoch) {',
  ),
  planted(
    'a frame’s checksum is not compared',
    1000,
    'format/segment-object.ts',
    'if (checksum(stored, seed) !== table.checksums[frame]) {',
    'if (table.checksums[frame] === undefined) {',
  ),
  planted(
    'a write of part of a block does not wait for another of the same block',
    200,
    'volume/volume-writer.ts',
    '(other) => other.firstBlock < endBlock && firstBlock < other.endBlock,',
    '() => false,',
  ),
  {
    name: 'what was recovered is not synced before it is built upon',
    seeds: 300,
    patches: [
      {
        file: 'volume/journal-recovery.ts',
        find: 'await file.file.sync();\n    segments.push',
        put: 'segments.push',
      },
      { file: 'volume/journal-recovery.ts', find: 'if (isWhole) await file.sync();', put: '' },
      {
        file: 'volume/journal-recovery.ts',
        find: 'await last.file.file.sync();',
        put: '',
      },
    ],
  },
  {
    name: 'what recovery gave up stays in the journal, and is not told from what came later',
    seeds: 500,
    patches: [
      {
        file: 'volume/journal-recovery.ts',
        find: 'await file.file.write([new Uint8Array(journalHeaderUsedBytes)], 0);',
        put: '',
      },
      {
        file: 'volume/journal-recovery.ts',
        find: 'const isSuperseded = header.epoch < latestEpoch;',
        put: 'const isSuperseded = false;',
      },
    ],
  },
  planted(
    'a volume that is lost goes on answering',
    3000,
    'volume/volume.ts',
    'this.gone ??= error;',
    '',
  ),
  planted(
    'who waits for room in the journal is not woken when there is some',
    500,
    'volume/journal-files.ts',
    'this.free.push(file);\n    this.wake();',
    'this.free.push(file);',
  ),
  planted(
    'a volume is made smaller, and what is past its end is left in the map',
    200,
    'volume/resize.ts',
    'await writer.zero(entryKind.hole, sizeBytes, beforeBytes - sizeBytes);',
    '',
  ),
  planted(
    'the manifest has the smaller size before the store has what cuts it off',
    500,
    'volume/resize.ts',
    'await uploader.whenCommitted(last);\n  await checkpointer.checkpoint();',
    'if (last > 0) return ownership.update((manifest) => ({ ...manifest, sizeBytes }));',
  ),
  planted(
    'a larger size is answered before the store has it',
    200,
    'volume/resize.ts',
    'await ownership.update((manifest) => grown(manifest, sizeBytes));',
    'void ownership.update((manifest) => grown(manifest, sizeBytes)).catch(() => undefined);',
  ),
  // Of the server: only worlds whose clients are on the network can show these.
  planted(
    'a write is answered before it is done',
    200,
    'nbd/transmission.ts',
    `    if (done === undefined) {
      this.replies.success(request);
      return undefined;
    }
    const to`,
    `    if (done === undefined || request.command === command.write) {
      this.replies.success(request);
      return done?.catch(() => undefined);
    }
    const to`,
  ),
  {
    name: 'what is received next goes over a payload that is still being written',
    seeds: 200,
    patches: [
      { file: 'nbd/transmission.ts', find: 'chunk?.hold();', put: '' },
      {
        file: 'nbd/transmission.ts',
        find: 'chunk?.release();\n      this.settle(bytes);',
        put: 'if (chunk === undefined || bytes >= 0) this.settle(bytes);',
      },
    ],
  },
  planted(
    'a flush covers only what its own connection has written',
    3000,
    'nbd/transmission.ts',
    'if (request.command === command.flush) return device.flush();',
    `if (request.command === command.flush) {
      const { counters } = this;
      const own = counters.writes + counters.otherRequests;
      counters.writes = counters.otherRequests = 0;
      return own > 0 ? device.flush() : undefined;
    }`,
  ),
  planted(
    'an export is let go while requests of a broken connection are under way',
    400,
    'nbd/transmission.ts',
    'if (this.counters.requestsInFlight > 0) return;',
    'if (this.counters.requestsInFlight > 0 && !this.dead) return;',
  ),
  // Of the proxy: worlds in which one outlives its server.
  planted(
    'a proxy does not write again what a server had answered and lost',
    400,
    'nbd/remote-device.ts',
    'for (const group of this.changes.inOrder()) {',
    'for (const group of [...this.changes.inOrder()].slice(1)) {',
  ),
  planted(
    'a flush lets go of what was answered after it was asked for',
    6000,
    'nbd/remote-device.ts',
    'this.changes.flushed(covered);',
    'if (covered.size >= 0) this.changes.flushed(this.changes.mark());',
  ),
  planted(
    'what a proxy keeps is its client’s memory, and no copy',
    400,
    'nbd/unflushed-changes.ts',
    'payload: new Uint8Array(payload)',
    'payload',
  ),
  ...snapshotBugs,
  ...versionBugs,
  ...timeBugs,
  ...cloneBugs,
  ...flattenBugs,
  ...spaceBugs,
  ...sealingBugs,
];
