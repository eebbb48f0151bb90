import { Option } from 'commander';
import { askDaemon, daemonKeys } from '../daemon.ts';
import { withStores } from '../stores.ts';
import { takeOverIn } from '../taking-over.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

export const attachVerb: Verb = {
  name: 'attach',
  summary: 'Let the running daemon attach a volume now, also one that was detached',
  examples: [
    ['attach data', 'give a volume that was detached to the clients again'],
    ['attach data --take-over', 'take it from a machine that was lost, when its lease has ended'],
  ],
  arguments: [['<name>', 'its name']],
  options: [
    new Option('--take-over', 'take it from another writer, when that one\u2019s lease has ended'),
    new Option('--force', 'take it from another writer at once, whether or not that one lives'),
  ],
  keys: daemonKeys,
  run: attach,
};

export const detachVerb: Verb = {
  name: 'detach',
  summary: 'Let the running daemon give a volume up, for another machine to attach',
  examples: [['detach data', 'disconnect its clients, upload all of it and give it up']],
  arguments: [['<name>', 'its name']],
  keys: [...daemonKeys, ...storeKeys],
  run: detach,
};

async function attach(invocation: Invocation): Promise<undefined> {
  const { output, options } = invocation;
  const name = invocation.arguments[0] ?? '';
  const query = new URLSearchParams({ volume: name, take_over: takeOverIn(options) });
  output.progress(`attaching ${name} \u2026`);
  const answer = await askDaemon(invocation, `/attach?${query.toString()}`, { method: 'POST' });
  output.result(answer, () => `attached ${name}`);
  return undefined;
}

async function detach(invocation: Invocation): Promise<undefined> {
  const { output } = invocation;
  const name = invocation.arguments[0] ?? '';
  const query = new URLSearchParams({ volume: name });
  output.progress(
    `detaching ${name}: its clients are disconnected, what they wrote is uploaded \u2026`,
  );
  const how = { method: 'POST', required: false } as const;
  const answer = (await askDaemon(invocation, `/detach?${query.toString()}`, how)) as
    | { readonly wasAttached: boolean }
    | undefined;
  if (answer === undefined) return detachWithoutDaemon(invocation, name);
  output.result(answer, () =>
    answer.wasAttached ? `detached ${name}` : `${name} was not attached; clients do not get it now`,
  );
  return undefined;
}

/** With no daemon here there is nothing to give up; who has the volume, its manifest says. */
async function detachWithoutDaemon(invocation: Invocation, name: string): Promise<undefined> {
  await withStores(invocation, async (all) => {
    const { manifest } = await findOne(all, name);
    if (manifest.writer !== undefined) {
      const { heldError } = await import('../../volume/take-over.ts');
      throw heldError(manifest);
    }
    invocation.output.result(
      { detached: name, wasAttached: false },
      () => `${name} is attached nowhere`,
    );
  });
  return undefined;
}
