import type { Random } from '../../src/base/random.ts';
import type { Durability } from '../../src/format/manifest.ts';
import type { NetworkShape } from './clients.ts';
import { blockBytes } from './contents.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import type { Engine } from './engine.ts';
import { chance, choose, pick } from './random.ts';
import type { Patience } from './store.ts';

/** Everything that a seed decides before its world begins. */
export interface Profile {
  /** The most blocks that the volume has. */
  readonly blockCount: number;
  readonly hostCount: number;
  readonly durability: Durability;
  readonly codec: 'none' | 'zstd' | 'lz4';
  /** How long what was written is kept, to go back to. */
  readonly retainMs: number;
  readonly settings: VolumeSettings;
  readonly patience: Patience;
  /** Clients come over the network; `undefined` where they are in the daemon itself. */
  readonly network: NetworkShape | undefined;
  /** Clients at a time. */
  readonly laneCount: number;
  readonly crashCount: number;
  /** Events between two misfortunes, at most. */
  readonly calmEvents: number;
  /** How likely each misfortune is, beside the others. */
  readonly chaos: Readonly<Record<Misfortune, number>>;
  /** Blocks of the volume when it is made, where its size changes. */
  readonly firstBlockCount: number | undefined;
  /** Clones at a time. */
  readonly cloneCount: number;
  readonly isEncrypted: boolean;
  readonly cipher: 'aes-256-gcm' | 'chacha20-poly1305';
}

export type Misfortune =
  | 'kill' // the daemon's process ends; what it gave to the kernel stays
  | 'power' // what was not synced is lost, sector by sector
  | 'disk' // the host comes back with an empty disk
  | 'sleep' // the process stands still and wakes later
  | 'rival' // another host is told to take the volume
  | 'network-weather' // connections begin or end to break
  | 'store-weather' // the store begins or ends to fail
  | 'disk-weather' // a local disk begins or ends to fail
  | 'clock' // a wall clock is set
  | 'rot'; // a bit changes in a journal file

/** Each kind of trouble is there in some worlds only: what is everywhere hides the rest. */
export function makeProfile(engine: Engine, random: Random): Profile {
  const sometimes = (share: number, weight: number): number => (chance(random, share) ? weight : 0);
  const { segmentBlocks } = engine.geometry;
  const hostCount = 1 + pick(random, 3);
  const blockCount = choose(random, [4, 8, 16, 24, 40]) * Math.min(8, Math.ceil(segmentBlocks / 8));
  return {
    blockCount,
    hostCount,
    durability: choose(random, ['local', 'local', 'store']),
    codec: choose(random, ['none', 'none', 'none', 'lz4', 'zstd']),
    retainMs: 0,
    settings: makeSettings(engine, random),
    patience: choose(random, ['none', 'retry']),
    laneCount: 1 + pick(random, 4),
    crashCount: choose(random, [10, 20, 60]),
    calmEvents: choose(random, [50, 150, 500]),
    chaos: {
      kill: 4,
      power: 6,
      disk: sometimes(0.4, 2),
      sleep: sometimes(0.4, 2),
      rival: hostCount === 1 ? 0 : sometimes(0.6, 3),
      'store-weather': sometimes(0.6, 3),
      'disk-weather': sometimes(0.2, 2),
      clock: 0,
      rot: sometimes(0.1, 1),
      'network-weather': 0,
    },
    network: undefined,
    // The last of all, so that worlds whose volume keeps its size are as they were.
    firstBlockCount: chance(random, 0.4) ? 1 + pick(random, blockCount) : undefined,
    cloneCount: 0,
    ...{ isEncrypted: false, cipher: 'aes-256-gcm' },
  };
}

/** One host that nobody takes the volume from, and a proxy before it. */
export function withProxy(profile: Profile): Profile {
  return { ...profile, hostCount: 1, firstBlockCount: undefined };
}

/** The same world with a past that can be gone back to; of its own seed too. */
export function withPast(profile: Profile, random: Random): Profile {
  const clock = chance(random, 0.4) ? 2 : 0;
  const retainMs = choose(random, [300, 5000, 86_400_000]);
  return { ...profile, retainMs, chaos: { ...profile.chaos, clock } };
}

/** The same world, encrypted. */
export function withEncryption(profile: Profile, random: Random): Profile {
  const cipher = chance(random, 0.8) ? 'aes-256-gcm' : 'chacha20-poly1305';
  return { ...profile, isEncrypted: true, cipher };
}

/** The same world in which clones are made of the volume, and of them again. */
export function withClones(profile: Profile, random: Random): Profile {
  return { ...profile, cloneCount: 1 + pick(random, 3) };
}

/** The world of a clone: as its source's, but for what is of all volumes. */
export function profileOfClone(profile: Profile, blockCount: number): Profile {
  return {
    ...profile,
    ...{ blockCount, hostCount: 2, retainMs: 0, firstBlockCount: undefined, network: undefined },
    chaos: { ...profile.chaos, clock: 0, 'store-weather': 0, 'network-weather': 0 },
  };
}

/** The same world with its clients on the network, which is an own seed's: the rest stays as it is. */
export function withNetwork(profile: Profile, random: Random): Profile {
  const longestBytes = profile.blockCount * blockBytes;
  return {
    ...profile,
    chaos: { ...profile.chaos, 'network-weather': chance(random, 0.8) ? 6 : 0 },
    network: {
      connectionCount: 1 + pick(random, 4),
      flushesApart: chance(random, 0.5),
      limits: {
        maximumRequestBytes: longestBytes,
        inFlightBytesPerConnection: choose(random, [1, 4]) * longestBytes,
        inFlightBytesTotal: choose(random, [4, 8]) * longestBytes,
        inFlightRequestsPerConnection: choose(random, [1, 2, 64]),
        unsentReplyBytesPerConnection: choose(random, [1, longestBytes]),
      },
    },
  };
}

function makeSettings(engine: Engine, random: Random): VolumeSettings {
  const { blockBytes, frameBytes, segmentDataBytes } = engine.geometry;
  const checkpointSegments = 1 + pick(random, 6);
  return {
    ...engine.defaultVolumeSettings,
    cacheBytes: blockBytes * choose(random, [1, 8, 64]),
    segmentBuffers: 1 + pick(random, 4),
    diskCacheBytes: frameBytes * choose(random, [0, 2, 16]),
    journalBytes: engine.journalFileBytes * choose(random, [4, 5, 8]),
    uploadIntervalMs: choose(random, [2, 20, 200, 2000]),
    putConcurrency: 1 + pick(random, 4),
    getConcurrency: 1 + pick(random, 4),
    readaheadBytes: choose(random, [0, segmentDataBytes]),
    journalDelayMs: choose(random, [0, 0.2, 2]),
    journalBatchBytes: choose(random, [1, 2, 8, 64]) * blockBytes,
    checkpointSegments,
    checkpointSegmentsMaximum: checkpointSegments + pick(random, 8),
    checkpointIdleMs: choose(random, [5, 50, 1000]),
    leaseMs: choose(random, [60, 600, 6000]),
    writesAnswered: choose(random, ['memory', 'journal', 'journal', 'disk']),
    retryMinimumMs: choose(random, [1, 10]),
    retryMaximumMs: choose(random, [20, 1000]),
    space: makeSpace(random),
  };
}

/** Space comes back all the time, from the first few segments on, at any moment of all else. */
function makeSpace(random: Random): VolumeSettings['space'] {
  return {
    bytesPerSecond: choose(random, [0, 2 ** 16, 2 ** 22, 2 ** 30]),
    graceMs: choose(random, [0, 0, 10, 1000]),
    markBytes: choose(random, [1, 1000, 2 ** 20]),
    lookMs: choose(random, [3, 30, 300]),
    pass: {
      longestMs: choose(random, [100, 10_000, 10_000_000]),
      fewestSegments: 1 + pick(random, 4),
      mapShare: 1000,
      writtenShare: 0,
      manySegments: 1,
    },
    limits: {
      startShare: choose(random, [0, 0.1, 0.4]),
      stopShare: choose(random, [0, 0.1]),
      mergeCount: choose(random, [2, 3, 1000]),
    },
  };
}
