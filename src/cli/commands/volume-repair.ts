import { hostname } from 'node:os';
import { Option } from 'commander';
import { errorTraits, StorageError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { roundDuration, roundSize } from '../../base/quantity.ts';
import { bytesToHex } from '../../format/binary.ts';
import { blockBytes } from '../../format/geometry.ts';
import type { RepairReport } from '../../volume/repair.ts';
import { table } from '../output.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';
import { renderReport, showProgress } from './volume-check.ts';

export const repairVerb: Verb = {
  name: 'repair',
  summary: 'Mend what can be mended of a volume without guessing',
  examples: [
    ['repair data', 'say what could be mended, and change nothing'],
    ['repair data --confirm data', 'mend it: its name is to be given twice'],
  ],
  arguments: [['<name>', 'its name; nobody may have it attached']],
  options: [
    new Option('--confirm <name>', 'its name again: do it, instead of saying what would be done'),
    new Option('--take-over', 'take it from a machine that was lost, when its lease has ended'),
  ],
  keys: storeKeys,
  run: repair,
};

async function repair(invocation: Invocation): Promise<number | undefined> {
  const { output, options, drivers } = invocation;
  const name = invocation.arguments[0] ?? '';
  const confirmed = options['confirm'];
  if (confirmed !== undefined && confirmed !== name) {
    throw new StorageError(
      'usage',
      `repairing changes the volume: repeat its name with --confirm ${name}`,
    );
  }
  return withStores(invocation, async (all) => {
    const { opened } = await findOne(all, name);
    const { repairVolume } = await import('../../volume/repair.ts');
    const { defaultVolumeSettings } = await import('../../volume/settings.ts');
    const { clock, random } = drivers;
    const report = await repairVolume(
      {
        ...{ store: opened.store, clock, random, log: silentLog, settings: defaultVolumeSettings },
        ...{ writerId: bytesToHex(random.bytes(16)), host: `${hostname()} (repair)` },
        apply: confirmed !== undefined,
        takeOver: options['takeOver'] === true ? 'when-dead' : 'never',
        onWatch: ({ host, remainingMs }) =>
          output.progress(`watching the lease of ${host}: ${roundDuration(remainingMs)} …`),
        onProgress: showProgress(invocation, name),
      },
      name,
    );
    output.result(report, () => renderRepair(report));
    return report.check.verdict === 'damaged' ? errorTraits.corrupt.exitStatus : undefined;
  });
}

/** What was mended or could be, what could not, and how the volume is. */
function renderRepair(report: RepairReport): string {
  const { volume, applied, orphans, mendedPages, pageTable, unmended } = report;
  const rows: [string, string][] = [];
  const did = applied ? 'done' : 'can be done';
  if (pageTable === 'mended') rows.push([did, 'make the page table of the map again']);
  if (mendedPages > 0) rows.push([did, `fold ${mendedPages} pages of the map again from the log`]);
  if (orphans.objects > 0) {
    const what = `remove ${orphans.objects} orphaned objects, ${roundSize(orphans.bytes)}`;
    rows.push([did, what]);
  }
  if (pageTable === 'unreadable') rows.push(['cannot be done', 'make the page table again']);
  for (const { firstBlock, count } of unmended) {
    const range = `bytes ${firstBlock * blockBytes} to ${(firstBlock + count) * blockBytes - 1}`;
    rows.push(['cannot be done', `find out where ${range} are: nothing readable tells`]);
  }
  const list =
    rows.length === 0
      ? 'nothing is there that could be mended\n'
      : table([{ header: 'REPAIR' }, { header: 'WHAT' }], rows);
  const hint =
    applied || rows.every(([how]) => how !== did)
      ? ''
      : `\nnothing was changed: --confirm ${volume} does what can be done\n`;
  return `${list}\n${renderReport(report.check)}${hint}`;
}
