import { Option } from 'commander';
import { keyNames } from '../configuration/keys.ts';
import type { Verb } from '../verb.ts';

export const serveVerb: Verb = {
  name: 'serve',
  summary: 'Serve volumes over NBD until told to stop',
  examples: [
    ['serve', 'make a 10GiB disk in ./elasticdrive-data and serve it'],
    ['serve --store s3://bucket/prefix', 'serve every volume of a bucket'],
    ['serve --listen nbd://127.0.0.1:10809 --listen nbd+unix:///run/disk.sock', 'listen twice'],
    ['serve --store s3://bucket --take-over', 'go on where a machine that was lost has stopped'],
    ['serve --config config.ini', 'serve as the first ElasticDrive did'],
  ],
  options: [
    new Option(
      '--take-over [names...]',
      'take volumes over whose writer\u2019s lease has ended; without names, all such volumes',
    ),
    new Option(
      '--force [names...]',
      'take volumes at once, whether or not their writer lives; without names, the only one',
    ),
  ],
  keys: keyNames,
  // What serves is loaded only for this command: all the others start faster without it.
  run: async (invocation) => (await import('../serving.ts')).serve(invocation),
};
