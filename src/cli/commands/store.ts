import { StorageError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import type { ProbeVerdict } from '../../store/probe.ts';
import { normalizeStoreUrl, storeUrlHint } from '../configuration/store-url.ts';
import { fields } from '../output.ts';
import { openStore } from '../stores.ts';
import { type Invocation, type Noun, ownStoreKeys } from '../verb.ts';

export const storeNoun: Noun = {
  name: 'store',
  summary: 'Look at stores',
  verbs: [
    {
      name: 'probe',
      summary: 'Find out by use what a store can be trusted with',
      examples: [
        ['probe s3://bucket/prefix', 'read, write, list and race in a bucket'],
        ['probe /mnt/shared', 'do so in a directory, of a network file system, say'],
      ],
      arguments: [['<url>', 'the store']],
      keys: ownStoreKeys,
      run: probe,
    },
  ],
};

async function probe(invocation: Invocation): Promise<number> {
  const { output, drivers } = invocation;
  const configuration = await invocation.configuration();
  const url = normalizeStoreUrl(invocation.arguments[0] ?? '', invocation.workingDirectory);
  if (url === undefined) throw new StorageError('usage', `a store to probe: ${storeUrlHint}`);
  // What the file says of this store counts; of another, not.
  const known = configuration.stores.find((store) => store.url === url);
  const store = known ?? { url, settings: configuration.settings };
  const opened = await openStore(invocation, configuration, store, {
    create: false,
    log: silentLog,
  });
  try {
    const { probeStore } = await import('../../store/probe.ts');
    output.progress(`probing ${url} \u2026`);
    const verdict = await probeStore(opened.store, drivers);
    output.result(verdict, () => render(verdict));
    return verdict.trustedForWriting ? 0 : 1;
  } finally {
    await opened.store.close();
  }
}

function render({ url, checks, trustedForReading, trustedForWriting }: ProbeVerdict): string {
  const rows = checks.map(({ name, ok, detail }): [string, string] => [
    name,
    `${ok ? 'ok    ' : 'FAILED'}  ${detail}`,
  ]);
  const conclusion = trustedForWriting
    ? 'can be trusted with volumes'
    : trustedForReading
      ? 'can be trusted with reading volumes, not with writing them'
      : 'cannot be trusted with volumes';
  return `${fields(rows)}\n${url} ${conclusion}\n`;
}
