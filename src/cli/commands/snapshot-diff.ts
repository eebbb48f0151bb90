import { Option } from 'commander';
import { parseMoment } from '../../base/moment.ts';
import { roundSize } from '../../base/quantity.ts';
import { parseVersionName } from '../../format/version-name.ts';
import type { BlockState, ChangedRange } from '../../volume/map-difference.ts';
import type { MapVersion } from '../../volume/map-version.ts';
import type { PageCache } from '../../volume/page-cache.ts';
import type { OpenStore } from '../drivers.ts';
import { fields, table } from '../output.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

/** Map pages of both versions that are kept while they are compared. */
const pageCacheBytes = 32 * 2 ** 20;
/** Entry tables of the log after the last checkpoint that are read at once. */
const getConcurrency = 16;

const states: readonly BlockState[] = ['data', 'zero', 'hole'];

export const diffVerb: Verb = {
  name: 'diff',
  summary: 'Say which bytes were changed between two versions of a volume, or of its clones',
  examples: [
    ['diff data@monday data@tuesday', 'compare two snapshots'],
    [
      'diff data@monday --json',
      'what was changed since, as far as the store has it, for a machine',
    ],
    ['diff data@monday data --summary', 'only how much that is'],
    ['diff data@2026-11-20T10:15:00Z', 'what was changed since that time, as far as it is kept'],
  ],
  arguments: [
    ['<from>', 'the earlier version: VOLUME@SNAPSHOT, or VOLUME@TIME where that is kept'],
    [
      '[to]',
      'the later one, or a volume as its store has it now; by default the volume of the first',
    ],
  ],
  options: [new Option('--summary', 'print how much was changed, and no ranges')],
  keys: storeKeys,
  run: diff,
};

interface Side {
  readonly name: string;
  readonly version: MapVersion;
  /** Who may have written what the store does not have yet. */
  readonly writer: string | undefined;
}

async function diff(invocation: Invocation): Promise<undefined> {
  const [from = '', to = parseVersionName(from)?.volume ?? from] = invocation.arguments;
  await withStores(invocation, async (all) => {
    const { PageCache } = await import('../../volume/page-cache.ts');
    const { changedRanges, requireFamily } = await import('../../volume/map-difference.ts');
    const pages = new PageCache(pageCacheBytes);
    const before = await open(invocation, all, from, pages);
    const after = await open(invocation, all, to, pages);
    requireFamily(before.version, after.version, [from, to]);
    const found = new Found(invocation.options['summary'] === true);
    for await (const range of changedRanges(before.version, after.version)) {
      found.add(range);
      if (found.count % 1000 === 0) invocation.output.progress(`${found.count} ranges …`);
    }
    const data = { from: sideData(before), to: sideData(after), ...found.data };
    invocation.output.result(data, () => render(before, after, found));
  });
  return undefined;
}

async function open(
  { drivers: { clock } }: Invocation,
  all: readonly OpenStore[],
  name: string,
  pages: PageCache,
): Promise<Side> {
  const { presentVersion, snapshotVersion } = await import('../../volume/stored-version.ts');
  const { volume, version } = parseVersionName(name) ?? { volume: name };
  const { opened, manifest } = await findOne(all, volume);
  if (version === undefined) {
    const present = await presentVersion(opened.store, manifest, pages, getConcurrency);
    return { name, version: present, writer: manifest.writer?.host };
  }
  const timeMs = parseMoment(version);
  if (timeMs !== undefined) {
    const { momentVersion } = await import('../../volume/moment-version.ts');
    const { defaultVolumeSettings: settings } = await import('../../volume/settings.ts');
    const options = { store: opened.store, clock, settings };
    return {
      name,
      version: await momentVersion(options, manifest, timeMs, pages),
      writer: undefined,
    };
  }
  const stored = await snapshotVersion(opened.store, manifest, version, pages);
  return { name, version: stored, writer: undefined };
}

/** What was found: how much of each state, and the ranges where they are wanted. */
class Found {
  readonly ranges: ChangedRange[] | undefined;
  count = 0;
  private readonly bytes = { data: 0, zero: 0, hole: 0 };

  constructor(onlySummary: boolean) {
    this.ranges = onlySummary ? undefined : [];
  }

  add(range: ChangedRange): void {
    this.count += 1;
    this.bytes[range.is] += range.lengthBytes;
    this.ranges?.push(range);
  }

  get totalBytes(): number {
    return states.reduce((sum, state) => sum + this.bytes[state], 0);
  }

  get data(): object {
    const summary = { ranges: this.count, bytes: this.totalBytes, now: this.bytes };
    return this.ranges === undefined ? { summary } : { summary, ranges: this.ranges };
  }

  /** `3MiB of data, 64KiB trimmed`. */
  get text(): string {
    const what = { data: 'of data', zero: 'of zeroes', hole: 'trimmed' };
    const parts = states
      .filter((state) => this.bytes[state] > 0)
      .map((state) => `${roundSize(this.bytes[state])} ${what[state]}`);
    return parts.length === 0 ? 'nothing' : parts.join(', ');
  }
}

function sideData({ name, version, writer }: Side): object {
  return { name, sizeBytes: version.sizeBytes, writer: writer ?? null };
}

function render(before: Side, after: Side, found: Found): string {
  const summary = fields([
    ['from', describe(before)],
    ['to', describe(after)],
    ['changed', `${found.text}${found.count === 0 ? '' : `, in ${found.count} ranges`}`],
  ]);
  if (found.ranges === undefined || found.count === 0) return summary;
  const rows = found.ranges.map(({ offset, lengthBytes, was, is }) => [
    ...[String(offset), String(lengthBytes), was, is],
  ]);
  return `${table(
    [
      { header: 'OFFSET', align: 'right' },
      { header: 'LENGTH', align: 'right' },
      { header: 'WAS' },
      { header: 'IS' },
    ],
    rows,
  )}\n${summary}`;
}

function describe({ name, version, writer }: Side): string {
  const present = writer === undefined ? '' : `, as far as the store has it; attached on ${writer}`;
  return `${name}, ${roundSize(version.sizeBytes)}${present}`;
}
