import { errorTraits } from '../../base/errors.ts';
import { defaultText, type KeyName, keyNames, keyOf } from '../configuration/keys.ts';
import type { Configuration } from '../configuration/load.ts';
import { table } from '../output.ts';
import type { Invocation, Noun } from '../verb.ts';

export const configNoun: Noun = {
  name: 'config',
  summary: 'Look at the configuration',
  verbs: [
    {
      name: 'check',
      summary: 'Say whether the configuration is right, or all that is wrong with it',
      examples: [
        ['check', 'check the configuration that would be used here'],
        ['check --config /etc/elasticdrive/config.toml', 'check one file'],
      ],
      keys: keyNames,
      run: check,
    },
    {
      name: 'show',
      summary: 'Show every key, its value and where it comes from',
      examples: [
        ['show', 'show the configuration that would be used here'],
        ['show --config config.ini --json', 'see what an INI file means, as JSON'],
      ],
      keys: keyNames,
      run: show,
    },
  ],
};

async function check(invocation: Invocation): Promise<number> {
  const { file, problems, warnings } = await invocation.loadConfiguration();
  const sound = problems.length === 0;
  invocation.output.result({ file: file ?? null, ok: sound, problems, warnings }, () =>
    [
      ...problems,
      ...warnings.map((warning) => `warning: ${warning}`),
      ...(sound ? [`${file ?? 'no configuration file, environment and flags'}: ok`] : []),
    ].join('\n'),
  );
  return sound ? 0 : errorTraits.usage.exitStatus;
}

interface Row {
  readonly key: string;
  readonly value: unknown;
  readonly text: string;
  readonly origin: string;
}

async function show(invocation: Invocation): Promise<undefined> {
  const configuration = await invocation.configuration();
  const rows = [...rowsOf(configuration), ...hiddenRows(configuration)];
  invocation.output.result(
    {
      file: configuration.file ?? null,
      keys: rows.map(({ key, value, origin }) => ({ key, value: value ?? null, origin })),
    },
    () =>
      table(
        [{ header: 'KEY' }, { header: 'VALUE' }, { header: 'FROM' }],
        rows.map(({ key, text, origin }) => [key, text, origin]),
      ),
  );
  return undefined;
}

/** Every key there is, then what is said of single stores and volumes. */
function rowsOf({ said }: Configuration): Row[] {
  const known = keyNames.map((name): Row => {
    const found = said.get(name);
    return found === undefined
      ? { key: name, value: keyOf(name).defaultValue, text: defaultText(name), origin: 'default' }
      : { key: name, value: found.value, text: found.text, origin: found.origin };
  });
  const others = [...said.values()]
    .filter(({ name }) => !keyNames.includes(name as KeyName))
    .map(({ name, value, text, origin }) => ({ key: name, value, text, origin }));
  return [...known, ...others];
}

function hiddenRows({ file, firstDrive }: Configuration): Row[] {
  if (firstDrive === undefined) return [];
  const origin = file ?? '';
  const { sizeBytes, volumeName, credentials } = firstDrive;
  const hidden = { value: '(hidden)', text: '(hidden)', origin };
  return [
    { key: `VOLUMESIZE of ${volumeName}`, value: sizeBytes, text: String(sizeBytes), origin },
    ...(credentials === undefined
      ? []
      : [
          { key: 'AWS_ACCESS_KEY_ID', ...hidden },
          { key: 'AWS_SECRET_ACCESS_KEY', ...hidden },
        ]),
  ];
}
