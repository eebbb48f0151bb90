import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  decodeCheckpoint,
  checkpointHeaderOffset,
  pageColumns,
} from '../../src/format/checkpoint-object.ts';
import {
  compactedHeaderOffset,
  decodeCompactedFrames,
  decodeCompactedHeader,
  decodeSources,
  sourceColumns,
  sourceRunColumns,
} from '../../src/format/compacted-object.ts';
import { decodeEntries, entryOffset } from '../../src/format/entry.ts';
import {
  decodeJournalHeader,
  entryTableOf,
  journalDataOffset,
  journalFileBytes,
  journalHeaderOffset,
  journalMarkOffset,
  recordOffset,
} from '../../src/format/journal-file.ts';
import { decodeManifest, decodeNameRecord } from '../../src/format/manifest.ts';
import { decodePage, pageHeaderOffset } from '../../src/format/map-page.ts';
import {
  decodeFrameTable,
  decodeSegmentHeader,
  frameRecordOffset,
  segmentHeaderOffset,
} from '../../src/format/segment-object.ts';
import {
  decodePlacement,
  placementColumns,
  placementHeaderOffset,
} from '../../src/format/placement-object.ts';
import {
  groupHeaderOffset,
  JournalSeal,
  openGroups,
  sealedJournalFileBytes,
} from '../../src/format/sealed-journal.ts';
import {
  decodeSealedHeader,
  openParts,
  sealedHeaderBytes,
  sealedHeaderOffset,
} from '../../src/format/sealed-object.ts';
import { deriveKey } from '../../src/format/sealing.ts';
import {
  dataKey,
  exampleHeader,
  examples,
  hexLines,
  journalGroup,
  sealedHeader,
  sealedPlace,
} from './examples.ts';

const page = readFileSync(new URL('../../docs/FORMAT.md', import.meta.url), 'utf8');

/** The rows of the table that follows a marker, as [offset, size, field]. */
function tableOf(name: string): [number, number, string][] {
  const start = page.indexOf(`<!-- table: ${name} -->`);
  expect(start, `docs/FORMAT.md has a table "${name}"`).toBeGreaterThan(0);
  const rows: [number, number, string][] = [];
  for (const line of page.slice(start).split('\n').slice(3)) {
    const match = /^\|\s*(\d+)\s*\|\s*(\d+)\s*\|\s*(\w+)/.exec(line);
    if (match === null) break;
    rows.push([Number(match[1]), Number(match[2]), match[3] ?? '']);
  }
  return rows;
}

test.each([
  ['entry', entryOffset],
  ['segment header', segmentHeaderOffset],
  ['frame record', frameRecordOffset],
  ['page header', pageHeaderOffset],
  ['checkpoint header', checkpointHeaderOffset],
  ['compacted header', compactedHeaderOffset],
  ['placement header', placementHeaderOffset],
  ['journal header', journalHeaderOffset],
  ['journal mark', journalMarkOffset],
  ['journal record', recordOffset],
  ['journal group', groupHeaderOffset],
  ['sealed header', sealedHeaderOffset],
])('the table of the %s is what the code uses, without gaps', (name, offsets) => {
  const rows = tableOf(name);
  expect(Object.fromEntries(rows.map(([offset, , field]) => [field, offset]))).toEqual(offsets);
  let end = 0;
  for (const [offset, size, field] of rows) {
    expect(offset, `${field} begins where the field before it ends`).toBe(end);
    end = offset + size;
  }
});

test.each([
  ['page table', pageColumns],
  ['source table', [...sourceColumns, ...sourceRunColumns]],
  ['placement', placementColumns],
])('the columns of the %s are what the code uses', (name, known) => {
  const start = page.indexOf(`<!-- columns: ${name} -->`);
  const columns = page
    .slice(start)
    .split('\n')
    .slice(3, 3 + known.length)
    .map((line) => /^\| (\w+)/.exec(line)?.[1]);
  expect(columns).toEqual([...known]);
});

test.each(Object.entries(examples))(
  'the example of the %s is what the code writes',
  (name, bytes) => {
    const match = new RegExp(`<!-- example: ${name} -->\\n\`\`\`text\\n([^\`]*)\\n\`\`\``).exec(
      page,
    );
    const isText = name === 'manifest' || name === 'name';
    const shown = isText ? new TextDecoder().decode(bytes).trimEnd() : hexLines(bytes);
    expect(match?.[1]).toBe(shown);
  },
);

/** Of the compacted object and the placement of the examples. */
const place = { serial: 1, epoch: 4 };

function example(name: string): Uint8Array {
  const bytes = examples[name];
  if (bytes === undefined) throw new Error(`there is no example ${name}`);
  return bytes;
}

test('the examples read as what they were made from', () => {
  const header = new Uint8Array(512);
  header.set(example('journal header'));
  expect(decodeJournalHeader(header)).toEqual(exampleHeader);
  const entries = decodeEntries(entryTableOf(example('journal records'), 2));
  expect(entries.map(({ firstBlock, count }) => [firstBlock, count])).toEqual([
    [256, 1],
    [2 ** 33, 2 ** 18],
  ]);
  const segment = decodeSegmentHeader(example('segment object'));
  expect(decodeFrameTable(segment, example('segment object')).offsets[0]).toBe(188);
  expect(decodePage(example('map page')).count).toBe(3);
  const at = { segment: 7, epoch: 3 };
  const [row] = decodeCheckpoint(example('checkpoint object'), exampleHeader.volumeId, {
    ...at,
    variant: 0,
  });
  expect(row).toMatchObject({ pageIndex: 0, liveBlocks: 1, storedBytes: 32 });
  const compacted = example('compacted object');
  const moved = decodeCompactedHeader(compacted, exampleHeader.volumeId, place);
  expect(decodeCompactedFrames(moved, compacted).offsets[0]).toBe(164);
  expect(decodeSources(moved, compacted)).toEqual([
    { ...at, runs: [{ firstBlock: 256, firstIndex: 0, count: 1 }] },
  ]);
  expect(decodePlacement(example('placement object'), exampleHeader.volumeId, place)).toEqual({
    segments: Uint32Array.of(7),
    serials: Uint32Array.of(1),
    epochs: Uint32Array.of(4),
  });
  expect(decodeManifest(example('manifest')).tenures).toEqual([{ epoch: 1, lastSegment: 4 }]);
  expect(decodeNameRecord(example('name'))).toBe(exampleHeader.volumeId);
});

test('the sealed examples open as what they were made from', () => {
  const object = example('sealed object').slice();
  const header = decodeSealedHeader(object);
  const key = deriveKey(dataKey, header.salt, 'object');
  const from = { firstPart: 0, from: sealedHeaderBytes, skip: 0 };
  const opened = openParts(header, { cipher: header.cipher, key }, sealedPlace, object, from);
  expect(opened).toEqual(example('placement object'));
  const sector = new Uint8Array(512);
  sector.set(example('sealed journal header'));
  expect(decodeJournalHeader(sector)).toEqual(sealedHeader);
  const journalKey = deriveKey(dataKey, header.salt, 'journal');
  const seal = new JournalSeal(sealedHeader, { cipher: header.cipher, key: journalKey });
  const found = openGroups(seal, journalGroup(), 2, () => undefined);
  expect(entryTableOf(found.records, 2)).toEqual(entryTableOf(example('journal records'), 2));
});

test('the sizes of a journal file are those of the page', () => {
  expect(page).toContain(journalFileBytes.toLocaleString('en-US'));
  expect(page).toContain(sealedJournalFileBytes.toLocaleString('en-US'));
  expect(page).toContain(`${journalDataOffset.toLocaleString('en-US')} + index * 4,096`);
});

test('a bit flipped anywhere in an object is noticed', () => {
  const flips: [string, (bytes: Uint8Array) => unknown][] = [
    ['segment object', (bytes) => decodeFrameTable(decodeSegmentHeader(bytes), bytes)],
    [
      'checkpoint object',
      (bytes) => decodeCheckpoint(bytes, exampleHeader.volumeId, { ...exampleHeader, variant: 0 }),
    ],
    [
      'compacted object',
      (bytes) => {
        const header = decodeCompactedHeader(bytes, exampleHeader.volumeId, place);
        decodeCompactedFrames(header, bytes);
        decodeSources(header, bytes);
      },
    ],
    ['placement object', (bytes) => decodePlacement(bytes, exampleHeader.volumeId, place)],
  ];
  for (const [name, decode] of flips) {
    // Of the segment, the entry table and the frames have checksums of their own.
    const ends: Readonly<Record<string, number>> = {
      'segment object': 140,
      'compacted object': 164,
    };
    const end = ends[name] ?? example(name).byteLength;
    for (let bit = 0; bit < end * 8; bit += 1) {
      const bytes = example(name).slice();
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => decode(bytes), `${name}, bit ${bit}`).toThrow(
        expect.objectContaining({ code: 'corrupt' }),
      );
    }
  }
});
