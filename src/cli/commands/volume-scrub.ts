import { sleep } from '../../base/clock.ts';
import { errorTraits } from '../../base/errors.ts';
import { roundSize } from '../../base/quantity.ts';
import type { DaemonStatus } from '../../host/status.ts';
import type { CheckReport } from '../../volume/check-report.ts';
import { askDaemon, daemonKeys } from '../daemon.ts';
import type { Invocation, Verb } from '../verb.ts';
import { renderReport } from './volume-check.ts';

const lookEveryMs = 500;

export const scrubVerb: Verb = {
  name: 'scrub',
  summary: 'Let the running daemon read and verify all objects of a volume now',
  examples: [['scrub data', 'scrub a volume at its scrub.rate, and wait for what is found']],
  arguments: [['<name>', 'its name; the daemon has it attached']],
  keys: daemonKeys,
  run: scrub,
};

async function scrub(invocation: Invocation): Promise<number | undefined> {
  const name = invocation.arguments[0] ?? '';
  const query = new URLSearchParams({ volume: name });
  const done = new AbortController();
  const answer = askDaemon(invocation, `/scrub?${query.toString()}`, { method: 'POST' }).finally(
    () => done.abort(),
  );
  const watching = watch(invocation, name, done.signal).catch(() => undefined);
  const report = (await answer) as CheckReport;
  await watching;
  invocation.output.result(report, () => renderReport(report));
  return report.verdict === 'damaged' ? errorTraits.corrupt.exitStatus : undefined;
}

/** Shows how far the scrub is, until it is done. */
async function watch(invocation: Invocation, name: string, done: AbortSignal): Promise<void> {
  const { output, drivers } = invocation;
  while (!done.aborted) {
    await sleep(drivers.clock, lookEveryMs, done);
    if (done.aborted) return;
    const { volumes } = (await askDaemon(invocation, '/status')) as DaemonStatus;
    const volume = volumes.find((each) => each.name === name);
    if (volume === undefined) return;
    const { segment, lastSegment, readBytes } = volume.scrub;
    output.progress(
      `scrubbing ${name}: segment ${segment} of ${lastSegment}, ${roundSize(readBytes)} read …`,
    );
  }
}
