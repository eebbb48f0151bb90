import type { Manifest } from '../format/manifest.ts';
import { decodeSnapshot, type Snapshot } from '../format/snapshot.ts';
import type { PinContext } from '../volume/clone-pins.ts';
import type { SnapshotWish } from '../volume/snapshot-changes.ts';
import { askForVolume } from './daemon.ts';
import type { Invocation } from './verb.ts';
import { withoutDaemon } from './without-daemon.ts';

/**
 * Makes a snapshot of the volume as it is: in its store if nobody has it, else by the daemon that has
 * it. It is completed, but for a daemon's that is not to be waited for.
 */
export async function snapshotNow(
  invocation: Invocation,
  context: PinContext,
  { id, name }: Manifest,
  wish: SnapshotWish,
  { waits }: { readonly waits: boolean } = { waits: true },
): Promise<Snapshot> {
  const { snapshotAtRest } = await import('../volume/snapshot-at-rest.ts');
  const { makeSnapshotDetached } = await import('../host/snapshotting.ts');
  return (
    (await snapshotAtRest(context, id, wish)) ??
    (await askForSnapshot(invocation, name, wish, waits)) ??
    (await withoutDaemon(invocation, name, (source) => makeSnapshotDetached(source, name, wish)))
  );
}

/** Asks the daemon; `undefined` when there is none, or the volume is in no store of its own. */
async function askForSnapshot(
  invocation: Invocation,
  volume: string,
  wish: SnapshotWish,
  waits: boolean,
): Promise<Snapshot | undefined> {
  const parameters = { volume, wish: JSON.stringify(wish), wait: String(waits) };
  const answer = await askForVolume(invocation, 'snapshot', parameters);
  return answer === undefined ? undefined : decodeSnapshot(answer);
}
