import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { durationHint, parseDuration, roundSize } from '../../base/quantity.ts';
import type { SpaceStatus } from '../../volume/space-keeper.ts';
import { askForVolume, daemonKeys } from '../daemon.ts';
import { fields } from '../output.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { withoutDaemon } from '../without-daemon.ts';

export const compactVerb: Verb = {
  name: 'compact',
  summary: 'Give back the space of what a volume does not need any more, now',
  examples: [
    ['compact data', 'look for what is dead, move together what is alive, delete the rest later'],
    ['compact data --grace 0s', 'delete it at once: nobody else reads the volume'],
  ],
  arguments: [['<name>', 'its name']],
  options: [
    new Option(
      '--grace <duration>',
      'how long what is dead stays, for those that still read by an older map',
    ),
  ],
  keys: [...daemonKeys, ...storeKeys],
  run: compact,
};

async function compact(invocation: Invocation): Promise<undefined> {
  const { output } = invocation;
  const [name = ''] = invocation.arguments;
  const graceMs = graceIn(invocation);
  output.progress(`giving back space of ${name} …`);
  const status =
    (await askForIt(invocation, name, graceMs)) ?? (await doIt(invocation, name, graceMs));
  output.result({ compacted: name, ...status }, () => fields(rowsOf(status)));
  return undefined;
}

function graceIn({ options }: Invocation): number | undefined {
  const text = options['grace'] as string | undefined;
  if (text === undefined) return undefined;
  const graceMs = parseDuration(text);
  if (graceMs === undefined) throw new StorageError('usage', `--grace expected ${durationHint}`);
  return graceMs;
}

/** Asks the daemon; `undefined` when there is none, or it does not have the volume. */
async function askForIt(
  invocation: Invocation,
  name: string,
  graceMs: number | undefined,
): Promise<SpaceStatus | undefined> {
  const grace = graceMs === undefined ? {} : { grace: String(graceMs) };
  const answer = await askForVolume(invocation, 'compact', { volume: name, ...grace });
  return answer as SpaceStatus | undefined;
}

async function doIt(
  invocation: Invocation,
  name: string,
  graceMs: number | undefined,
): Promise<SpaceStatus> {
  const { compactDetached } = await import('../../host/compacting.ts');
  return withoutDaemon(invocation, name, (source) => compactDetached(source, name, graceMs));
}

function rowsOf(status: SpaceStatus): [string, string][] {
  const { waitingBytes } = status;
  const waiting =
    waitingBytes === 0 ? 'nothing' : `${roundSize(waitingBytes)}, until the grace period is over`;
  return [
    ['found stored', roundSize(status.storedBytes)],
    ['of it alive', roundSize(status.liveBytes)],
    ['dead beside it', roundSize(status.deadBytes)],
    ['moved', roundSize(status.movedBytes)],
    ['deleted', `${roundSize(status.deletedBytes)} in ${status.deletedObjects} objects`],
    ['waits', waiting],
  ];
}
