import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { formatSize, parseSize, sizeHint } from '../../base/quantity.ts';
import type { Resizing } from '../../host/resizing.ts';
import type { Resized } from '../../volume/resize.ts';
import { askForVolume, daemonKeys } from '../daemon.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { withoutDaemon } from '../without-daemon.ts';

export const resizeVerb: Verb = {
  name: 'resize',
  summary: 'Make a volume larger while it is in use, or smaller while nobody has it',
  examples: [
    [
      'resize data 200GiB',
      'make it larger; clients that ask again see it, a kernel has to be told',
    ],
    [
      'resize data 50GiB --shrink --confirm data',
      'cut off what is past 50 GiB, for good: its name is to be given twice',
    ],
  ],
  arguments: [
    ['<name>', 'its name'],
    ['<size>', `its size from now on: ${sizeHint}`],
  ],
  options: [
    new Option('--shrink', 'cut it off: detached first, its file system made smaller before'),
    new Option('--confirm <name>', 'its name again, for --shrink'),
  ],
  keys: [...daemonKeys, ...storeKeys],
  run: resize,
};

async function resize(invocation: Invocation): Promise<undefined> {
  const { output } = invocation;
  const [name = ''] = invocation.arguments;
  const resizing = resizingIn(invocation);
  const to = formatSize(resizing.sizeBytes);
  output.progress(`${resizing.shrinks ? 'cutting' : 'growing'} ${name} to ${to} …`);
  const resized =
    (await askForIt(invocation, name, resizing)) ?? (await doIt(invocation, name, resizing));
  const { beforeBytes, sizeBytes } = resized;
  output.result({ resized: name, beforeBytes, sizeBytes }, () =>
    beforeBytes === sizeBytes
      ? `${name} is of ${to} already`
      : `${name} is of ${to} now, it was of ${formatSize(beforeBytes)}`,
  );
  return undefined;
}

function resizingIn({ arguments: [name, size = ''], options }: Invocation): Resizing {
  const sizeBytes = parseSize(size);
  if (sizeBytes === undefined)
    throw new StorageError('usage', `"${size}" is no size: expected ${sizeHint}`);
  const shrinks = options['shrink'] === true;
  if (shrinks && options['confirm'] !== name) {
    throw new StorageError(
      'usage',
      `what is past ${formatSize(sizeBytes)} is lost for good: repeat the volume's name with --confirm ${name}`,
    );
  }
  return { sizeBytes, shrinks };
}

/** Asks the daemon; `undefined` when there is none, or the volume is in no store of its own. */
async function askForIt(
  invocation: Invocation,
  name: string,
  { sizeBytes, shrinks }: Resizing,
): Promise<Resized | undefined> {
  const wish = { volume: name, size: String(sizeBytes), shrink: String(shrinks) };
  return (await askForVolume(invocation, 'resize', wish)) as Resized | undefined;
}

async function doIt(invocation: Invocation, name: string, resizing: Resizing): Promise<Resized> {
  const { resizeDetached } = await import('../../host/resizing.ts');
  return withoutDaemon(invocation, name, (source) => resizeDetached(source, name, resizing));
}
