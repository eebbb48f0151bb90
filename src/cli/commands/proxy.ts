import { Option } from 'commander';
import type { Verb } from '../verb.ts';

export const proxyVerb: Verb = {
  name: 'proxy',
  summary: 'Keep a client of a volume alive while its server restarts',
  examples: [
    [
      'proxy nbd://127.0.0.1:10809/drive0 --at nbd+unix:///run/drive0.sock',
      'for a kernel on the same machine',
    ],
    ['proxy nbd://server/drive0 --at nbd://127.0.0.1:10810', 'for a server elsewhere'],
  ],
  arguments: [['<uri>', 'The volume: nbd://host:port/name or nbd+unix:///name?socket=/path']],
  options: [
    new Option(
      '--at <address>',
      'where the client connects; this proxy\u2019s alone',
    ).makeOptionMandatory(),
  ],
  keys: ['limits.connections', 'limits.in_flight', 'limits.busy_poll', 'log.level'],
  run: async (invocation) => (await import('../proxying.ts')).proxy(invocation),
};
