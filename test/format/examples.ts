import { placementKey } from '../../src/format/names.ts';
import { groupBytes, JournalSeal } from '../../src/format/sealed-journal.ts';
import { sealedLength, sealInPlace } from '../../src/format/sealed-object.ts';
import { deriveKey } from '../../src/format/sealing.ts';
import { encodeCheckpoint } from '../../src/format/checkpoint-object.ts';
import { encodeEntry, entryBytes, entryKind } from '../../src/format/entry.ts';
import {
  encodeJournalHeader,
  type JournalHeader,
  recordBytes,
  recordSeed,
  sealRecord,
} from '../../src/format/journal-file.ts';
import { encodeManifest, encodeNameRecord } from '../../src/format/manifest.ts';
import { encodePage } from '../../src/format/map-page.ts';
import { checksum, viewOf } from '../../src/format/binary.ts';
import {
  compactedFrameSeed,
  encodeCompactedHeader,
  encodeSources,
} from '../../src/format/compacted-object.ts';
import { encodePlacement } from '../../src/format/placement-object.ts';
import {
  encodeFrameTable,
  encodeSegmentHeader,
  frameSeed,
} from '../../src/format/segment-object.ts';
import { concatenate } from '../../src/store/parts.ts';

/** The worked examples of docs/FORMAT.md: one small volume, whose bytes never change again. */
const volumeId = '00112233445566778899aabbccddeeff';
const at = { segment: 7, epoch: 3 };
const openedMs = 1_790_000_000_000;
const block = new Uint8Array(4096).fill(0xab);

export const exampleHeader: JournalHeader = { volumeId, ...at, previousEntries: 5, openedMs };

function entries(): Uint8Array {
  const table = new Uint8Array(2 * entryBytes);
  const view = viewOf(table);
  const data = { kind: entryKind.data, firstBlock: 256, count: 1, firstIndex: 0, timeMs: 2 };
  const hole = { kind: entryKind.hole, firstBlock: 2 ** 33, count: 2 ** 18, firstIndex: 0 };
  encodeEntry(view, 0, data);
  encodeEntry(view, entryBytes, { ...hole, timeMs: 1500 });
  return table;
}

function records(): Uint8Array {
  const bytes = new Uint8Array(2 * recordBytes);
  const view = viewOf(bytes);
  const table = entries();
  const sums = new Uint8Array(4);
  viewOf(sums).setUint32(0, checksum(block), true);
  const seed = recordSeed(exampleHeader);
  for (let ordinal = 0; ordinal < 2; ordinal += 1) {
    const from = ordinal * entryBytes;
    bytes.set(table.subarray(from, from + entryBytes), ordinal * recordBytes);
    const own = ordinal === 0 ? sums : new Uint8Array(0);
    sealRecord(bytes, view, ordinal * recordBytes, ordinal, seed, own);
  }
  return bytes;
}

/** The segment of the records above, stored without compression. */
function segment(): Uint8Array {
  const table = entries();
  const frames = encodeFrameTable([
    { storedBytes: 4096, codec: 'none', checksum: checksum(block, frameSeed(volumeId, at, 0)) },
  ]);
  const header = encodeSegmentHeader({
    ...at,
    volumeId,
    blockCount: 1,
    entryCount: 2,
    frameCount: 1,
    objectBytes: 128 + frames.byteLength + table.byteLength + block.byteLength,
    sealedMs: openedMs + 5000,
    openedMs,
    entryTableBytes: table.byteLength,
    entryTableCodec: 'none',
    entryTableChecksum: checksum(table),
    frameTableChecksum: checksum(frames),
  });
  return concatenate([header, frames, table, block]);
}

/** What is left of the segment above, moved. */
function compacted(): Uint8Array {
  const place = { serial: 1, epoch: 4 };
  const sources = encodeSources([{ ...at, runs: [{ firstBlock: 256, firstIndex: 0, count: 1 }] }]);
  const sum = checksum(block, compactedFrameSeed(volumeId, place, 0));
  const frames = encodeFrameTable([{ storedBytes: 4096, codec: 'none', checksum: sum }]);
  const header = encodeCompactedHeader({
    ...place,
    volumeId,
    blockCount: 1,
    frameCount: 1,
    sourceCount: 1,
    objectBytes: 128 + frames.byteLength + sources.byteLength + block.byteLength,
    runCount: 1,
    sourceTableBytes: sources.byteLength,
    sourceTableCodec: 'none',
    sourceTableChecksum: checksum(sources),
    frameTableChecksum: checksum(frames),
  });
  return concatenate([header, frames, sources, block]);
}

const page = encodePage({
  count: 3,
  starts: Uint16Array.of(0, 256, 257),
  segments: Uint32Array.of(0, 7, 0),
  indices: Uint16Array.of(0, 0, 0),
});

function checkpoint(): Uint8Array {
  const row = {
    pageIndex: 0,
    ...at,
    part: 0,
    offset: 0,
    storedBytes: page.byteLength,
    checksum: checksum(page),
    liveBlocks: 1,
  };
  return encodeCheckpoint(volumeId, { ...at, variant: 0 }, [row], openedMs + 1500);
}

const manifest = encodeManifest({
  id: volumeId,
  name: 'drive0',
  sizeBytes: 10_737_418_240,
  createdAt: '2026-09-21T14:13:20.000Z',
  codec: 'zstd',
  durability: 'local',
  epoch: 3,
  closedThrough: 2,
  tenures: [{ epoch: 1, lastSegment: 4 }],
  writer: { id: 'a1b2c3d4', host: 'server-1', lease: 12, leaseMs: 120_000 },
  head: { segment: 4, epoch: 1, variant: 0 },
  ancestors: [
    { volumeId: 'aa'.repeat(16), snapshotId: 'bb'.repeat(16), lastSegment: 2, lastEpoch: 1 },
  ],
  placement: { serial: 1, epoch: 3 },
  snapshots: [
    {
      id: 'cc'.repeat(16),
      name: 'before-upgrade',
      segment: 4,
      checkpoint: { segment: 4, epoch: 1, variant: 0 },
      isCompleted: true,
      sizeBytes: 10_737_418_240,
      createdAt: '2026-09-21T15:00:00.000Z',
      description: 'release 7',
      tags: { service: 'billing' },
      clones: [{ volumeId: 'dd'.repeat(16), since: '2026-09-21T15:05:00.000Z' }],
    },
  ],
  retention: {
    retainMs: 86_400_000,
    keptFrom: { checkpoint: { segment: 3, epoch: 1, variant: 0 }, timeMs: openedMs - 90_000_000 },
    storedThroughMs: openedMs,
    turns: [
      {
        segment: 4,
        checkpoint: { segment: 4, epoch: 2, variant: 1 },
        timeMs: openedMs - 3_600_000,
      },
    ],
    formerSizes: [{ sizeBytes: 21_474_836_480, timeMs: openedMs - 7_200_000 }],
  },
  nonce: 'ffeeddccbbaa99887766554433221100',
});

/** Of generation 1, and the salt of all that is sealed with it here. */
export const dataKey = Uint8Array.from({ length: 32 }, (_, at) => at);
const salt = Uint8Array.from({ length: 32 }, (_, at) => 0xa0 + at);
const sealedWith = { cipher: 'aes-256-gcm', generation: 1, salt } as const;
export const sealedHeader: JournalHeader = { ...exampleHeader, sealing: sealedWith };
export const sealedPlace = placementKey(volumeId, { serial: 1, epoch: 4 });
const placement = encodePlacement(
  volumeId,
  { serial: 1, epoch: 4 },
  { segments: Uint32Array.of(7), serials: Uint32Array.of(1), epochs: Uint32Array.of(4) },
);

function sealedPlacement(): Uint8Array {
  const bytes = new Uint8Array(sealedLength(placement.byteLength));
  bytes.set(placement);
  const key = deriveKey(dataKey, salt, 'object');
  sealInPlace(bytes, placement.byteLength, { ...sealedWith, key, place: sealedPlace });
  return bytes;
}

export function journalGroup(): Uint8Array {
  const key = deriveKey(dataKey, salt, 'journal');
  const seal = new JournalSeal(sealedHeader, { cipher: sealedWith.cipher, key });
  const shape = { firstOrdinal: 0, entryCount: 2, firstIndex: 0, blockCount: 1 };
  const bytes = new Uint8Array(groupBytes(shape));
  seal.seal(shape, entries(), block, bytes);
  return bytes;
}

/** By the name under which docs/FORMAT.md shows them; long runs of one block are cut off there. */
export const examples: Readonly<Record<string, Uint8Array>> = {
  'journal header': encodeJournalHeader(exampleHeader).subarray(0, 64),
  'journal records': records(),
  'segment object': segment().subarray(0, 128 + 12 + 48 + 16),
  'map page': page,
  'checkpoint object': checkpoint(),
  'compacted object': compacted().subarray(0, 128 + 12 + 24 + 16),
  'placement object': placement,
  'sealed object': sealedPlacement(),
  'sealed journal header': encodeJournalHeader(sealedHeader).subarray(0, 112),
  'journal group': journalGroup().subarray(0, 32 + 48 + 16),
  manifest,
  name: encodeNameRecord(volumeId),
};

/** As `hexdump -C` shows bytes, without the text. */
export function hexLines(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let from = 0; from < bytes.byteLength; from += 16) {
    const row = Buffer.from(bytes.subarray(from, from + 16)).toString('hex');
    lines.push(`${from.toString(16).padStart(4, '0')}  ${row.replace(/(..)(?=.)/g, '$1 ')}`);
  }
  return lines.join('\n');
}
