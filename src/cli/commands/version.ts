import type { Verb } from '../verb.ts';

export const versionVerb: Verb = {
  name: 'version',
  summary: 'Print the version',
  examples: [['version', 'print the version of ElasticDrive and of Node']],
  unconfigured: true,
  run({ output, version }) {
    output.result(
      { version, node: process.version },
      () => `elasticdrive ${version} on Node ${process.version}`,
    );
    return Promise.resolve(undefined);
  },
};
