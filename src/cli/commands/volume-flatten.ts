import { Option } from 'commander';
import { sleep } from '../../base/clock.ts';
import { StorageError } from '../../base/errors.ts';
import { roundSize } from '../../base/quantity.ts';
import type { DaemonStatus } from '../../host/status.ts';
import { blockBytes } from '../../format/geometry.ts';
import type { Flattened, FlattenProgress } from '../../volume/flattener.ts';
import { askDaemon, askForVolume, daemonKeys } from '../daemon.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { withoutDaemon } from '../without-daemon.ts';

const lookEveryMs = 500;

export const flattenVerb: Verb = {
  name: 'flatten',
  summary: 'Make a clone independent of what it was cloned from, while it is used',
  examples: [
    ['flatten test', 'copy what it reads of its ancestors, which can be deleted then'],
    ['flatten test --confirm test', 'of a volume that keeps its past, which begins anew'],
  ],
  arguments: [['<name>', 'the clone']],
  options: [
    new Option('--confirm <name>', 'its name again: what it was until now may be given up'),
  ],
  keys: [...daemonKeys, ...storeKeys],
  run: flatten,
};

async function flatten(invocation: Invocation): Promise<undefined> {
  const { output, options } = invocation;
  const [name = ''] = invocation.arguments;
  const confirmed = options['confirm'] as string | undefined;
  if (confirmed !== undefined && confirmed !== name)
    throw new StorageError('usage', `repeat the volume's name with --confirm ${name}`);
  const mayForget = confirmed === name;
  output.progress(`flattening ${name} …`);
  const done =
    (await askForIt(invocation, name, mayForget)) ?? (await doIt(invocation, name, mayForget));
  output.result({ flattened: name, ...done }, () =>
    done.wasClone
      ? `${name} needs no other volume any more; ${roundSize(done.storedBytes)} were stored for that`
      : `${name} is no clone: there is nothing to do`,
  );
  return undefined;
}

/** Asks the daemon; `undefined` when there is none, or the volume is in no store of its own. */
async function askForIt(
  invocation: Invocation,
  name: string,
  mayForget: boolean,
): Promise<Flattened | undefined> {
  const done = new AbortController();
  const parameters = { volume: name, forget: String(mayForget) };
  const answer = askForVolume(invocation, 'flatten', parameters).finally(() => done.abort());
  const watching = watch(invocation, name, done.signal).catch(() => undefined);
  const flattened = await answer;
  await watching;
  return flattened as Flattened | undefined;
}

/** Shows how far the daemon is, until it is done. */
async function watch(invocation: Invocation, name: string, done: AbortSignal): Promise<void> {
  for (;;) {
    await sleep(invocation.drivers.clock, lookEveryMs, done);
    if (done.aborted) return;
    const { volumes } = (await askDaemon(invocation, '/status')) as DaemonStatus;
    const flattening = volumes.find((each) => each.name === name)?.space.flattening;
    if (flattening !== undefined) show(invocation, name, flattening);
  }
}

async function doIt(invocation: Invocation, name: string, mayForget: boolean): Promise<Flattened> {
  const { flattenDetached } = await import('../../host/flattening.ts');
  const { clock } = invocation.drivers;
  const onProgress = (progress: FlattenProgress): void => show(invocation, name, progress);
  return withoutDaemon(invocation, name, (source) =>
    flattenDetached(source, name, { mayForget }, { clock, onProgress }),
  );
}

function show({ output }: Invocation, name: string, progress: FlattenProgress): void {
  const copied = roundSize(progress.copiedBlocks * blockBytes);
  const all = roundSize(progress.blocks * blockBytes);
  output.progress(`flattening ${name}: ${copied} of ${all} copied …`);
}
