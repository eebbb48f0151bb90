import { StorageError } from '../../base/errors.ts';
import {
  describeRetention,
  describeWindow,
  retainIn,
  retainOption,
  retentionFields,
} from '../retention.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

export const setVerb: Verb = {
  name: 'set',
  summary: 'Change how long what is written to a volume is kept, whoever has it',
  examples: [
    ['set data --retain 24h', 'keep all that is written for a day, to go back to any moment of it'],
    ['set data --retain 0', 'keep only what the volume and its snapshots hold now'],
  ],
  arguments: [['<name>', 'its name']],
  options: [retainOption],
  keys: storeKeys,
  run: set,
};

async function set(invocation: Invocation): Promise<undefined> {
  const [name = ''] = invocation.arguments;
  const retainMs = retainIn(invocation.options);
  if (retainMs === undefined) throw new StorageError('usage', 'nothing to set: use --retain');
  const { clock, random } = invocation.drivers;
  await withStores(invocation, async (all) => {
    const { opened, manifest } = await findOne(all, name);
    const { changeManifest } = await import('../../volume/manifest-change.ts');
    const { withRetention } = await import('../../volume/retention.ts');
    const changed = await changeManifest({ store: opened.store, random }, manifest.id, (before) =>
      withRetention(before, retainMs),
    );
    const window = await describeWindow(changed, clock.wallMs());
    const result = { set: name, retention: await retentionFields(changed, clock.wallMs()) };
    invocation.output.result(result, () =>
      retainMs === 0
        ? `${name} keeps nothing but its snapshots of what it was`
        : `${name} keeps what is written for ${describeRetention(changed)}; can be had as of ${window}`,
    );
  });
  return undefined;
}
