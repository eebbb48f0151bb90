import { configNoun } from './commands/config.ts';
import { keyNoun } from './commands/key.ts';
import { proxyVerb } from './commands/proxy.ts';
import { serveVerb } from './commands/serve.ts';
import { snapshotNoun } from './commands/snapshot.ts';
import { statusVerb } from './commands/status.ts';
import { storeNoun } from './commands/store.ts';
import { systemdNoun } from './commands/systemd.ts';
import { tlsNoun } from './commands/tls.ts';
import { versionVerb } from './commands/version.ts';
import { volumeNoun } from './commands/volume.ts';
import type { Noun, Verb } from './verb.ts';

/** Every command there is, in the order of the help. */
export const contents: readonly (Noun | Verb)[] = [
  serveVerb,
  proxyVerb,
  statusVerb,
  volumeNoun,
  snapshotNoun,
  storeNoun,
  configNoun,
  keyNoun,
  tlsNoun,
  systemdNoun,
  versionVerb,
];
