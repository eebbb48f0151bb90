import { Option } from 'commander';
import { errorTraits, StorageError } from '../../base/errors.ts';
import { roundSize } from '../../base/quantity.ts';
import { blockBytes } from '../../format/geometry.ts';
import type { CheckProgress } from '../../volume/check.ts';
import type { CheckReport, DataPart, LostRange } from '../../volume/check-report.ts';
import { table } from '../output.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

/** Lines of a list for people; `--json` has more. */
const listedMaximum = 50;

export const checkVerb: Verb = {
  name: 'check',
  summary: 'Verify a volume in its store: all that it refers to, and what else lies there',
  examples: [
    ['check data', 'verify every table, page and object name, but not the data'],
    ['check data --read-data', 'read and verify all of the data too'],
    ['check data --read-data=3/30', 'verify the third of thirty parts of the data'],
  ],
  arguments: [['<name>', 'its name; it may be attached, here or elsewhere']],
  options: [
    new Option('--read-data [part]', 'read the data too: all of it, or part n of t as "n/t"'),
  ],
  keys: storeKeys,
  run: check,
};

async function check(invocation: Invocation): Promise<number | undefined> {
  const { output, options, drivers } = invocation;
  const readData = dataPartOf(options['readData']);
  return withStores(invocation, async (all) => {
    const { opened, manifest } = await findOne(all, invocation.arguments[0] ?? '');
    const { checkVolume } = await import('../../volume/check.ts');
    const { clock } = drivers;
    const report = await checkVolume(opened.store, manifest.name, {
      clock,
      readData,
      onProgress: showProgress(invocation, manifest.name),
    });
    output.result(report, () => renderReport(report));
    return report.verdict === 'damaged' ? errorTraits.corrupt.exitStatus : undefined;
  });
}

/** Shows progress a few times a second, for that is what a terminal can take. */
export function showProgress(
  { output, drivers: { clock } }: Invocation,
  name: string,
): (progress: CheckProgress) => void {
  let shownMs = Number.NEGATIVE_INFINITY;
  return ({ segment, lastSegment, readBytes, damageCount }) => {
    if (clock.monotonicMs() - shownMs < 200) return;
    shownMs = clock.monotonicMs();
    const damage = damageCount === 0 ? '' : `, ${damageCount} damaged`;
    output.progress(
      `checking ${name}: segment ${segment} of ${lastSegment}, ${roundSize(readBytes)} read${damage} …`,
    );
  };
}

/** Part n of t, all, or none when the option was not given. */
export function dataPartOf(option: unknown): DataPart | undefined {
  if (option === undefined) return undefined;
  if (option === true) return { part: 1, parts: 1 };
  const match = /^([1-9]\d{0,8})\/([1-9]\d{0,8})$/.exec(option as string);
  const part = { part: Number(match?.[1]), parts: Number(match?.[2]) };
  if (match === null || part.part > part.parts) {
    throw new StorageError(
      'usage',
      '--read-data expected a part such as 1/10: n of t, from 1/t to t/t',
    );
  }
  return part;
}

/** What a check found, for people: what lies there, what is wrong, and the verdict last. */
export function renderReport(report: CheckReport): string {
  const parts = [objectTable(report), problemTable(report), lostTable(report)];
  return [...parts.filter((part) => part !== ''), `${verdictOf(report)}\n`].join('\n');
}

function objectTable({ objects }: CheckReport): string {
  return table(
    [
      { header: 'OBJECTS' },
      { header: 'COUNT', align: 'right' },
      { header: 'SIZE', align: 'right' },
    ],
    Object.entries(objects)
      .filter(([standing, count]) => standing === 'referenced' || count.objects > 0)
      .map(([standing, count]) => [standing, String(count.objects), roundSize(count.bytes)]),
  );
}

function problemTable({ problems, damageCount, warningCount }: CheckReport): string {
  if (problems.length === 0) return '';
  const shown = problems.slice(0, listedMaximum);
  const lines = shown.map(({ severity, what, object, message }) => {
    return [severity, what, `${object ?? '-'}: ${message}`];
  });
  const more = damageCount + warningCount - shown.length;
  const rest = more === 0 ? '' : `… and ${more} more; --json lists up to 1000\n`;
  const columns = [{ header: 'SEVERITY' }, { header: 'WHAT' }, { header: 'OBJECT' }];
  return table(columns, lines) + rest;
}

function lostTable({ lost, lostBlocks }: CheckReport): string {
  if (lost.length === 0) return '';
  const shown = lost.slice(0, listedMaximum);
  const rest = lost.length > shown.length ? '… and more; --json lists up to 1000\n' : '';
  const head = `bytes of the volume that cannot be read, ${roundSize(lostBlocks * blockBytes)} in all:\n`;
  const columns = [
    { header: 'FROM', align: 'right' as const },
    { header: 'LENGTH', align: 'right' as const },
    { header: 'OBJECT' },
  ];
  return head + table(columns, shown.map(lostRow)) + rest;
}

function lostRow({ firstBlock, count, object }: LostRange): string[] {
  return [String(firstBlock * blockBytes), String(count * blockBytes), object];
}

/** The one sentence that says how it is. */
function verdictOf(report: CheckReport): string {
  const { volume, segments, pages, readBytes, damageCount, warningCount, lostBlocks } = report;
  const data = dataText(report.dataRead);
  const read = `${counted(segments, 'segment')} and ${counted(pages, 'map page')} verified, ${data}, ${roundSize(readBytes)} read`;
  const attached = report.attachedOn === undefined ? '' : `, attached on ${report.attachedOn}`;
  if (report.verdict === 'damaged') {
    const lost =
      lostBlocks === 0
        ? 'all of its data can be read'
        : `${roundSize(lostBlocks * blockBytes)} cannot be read`;
    return `${volume} is damaged: ${things(damageCount)} wrong, ${lost} (${read}${attached})`;
  }
  const warnings =
    warningCount === 0 ? '' : `; ${counted(warningCount, 'object')} there that nothing needs`;
  return `${volume} is sound (${read}${attached})${warnings}`;
}

function things(count: number): string {
  return `${counted(count, 'thing')} ${count === 1 ? 'is' : 'are'}`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function dataText(dataRead: DataPart | undefined): string {
  if (dataRead === undefined) return 'none of the data';
  const { part, parts } = dataRead;
  return parts === 1 ? 'all of the data' : `part ${part} of ${parts} of the data`;
}
