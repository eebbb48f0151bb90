import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { defaultText, environmentName, flagName, keyNames, keyOf, nameInStore } from './keys.ts';

import { resolveConfiguration } from './resolve.ts';
import { readToml } from './toml.ts';

describe('the keys of the configuration', () => {
  it('stand in docs/CONFIGURATION.md, one row each', () => {
    const document = readFileSync('docs/CONFIGURATION.md', 'utf8');
    const [, table = ''] = document.split('## All keys');
    const rows = table
      .split('\n## ')[0]
      ?.split('\n')
      .filter((line) => line.startsWith('| `'))
      .map((line) => line.replaceAll(/ +/g, ' '));
    const expected = keyNames.map((name) => {
      const { description, kind, scope } = keyOf(name);
      const otherwise = defaultText(name).replace(/^\((.*)\)$/, '$1');
      return `| \`${name}\` | ${description} | ${kind.expected} | ${otherwise} | ${scope} |`;
    });
    expect(rows).toEqual(expected);
  });

  it('have an example there that is right', () => {
    const document = readFileSync('docs/CONFIGURATION.md', 'utf8');
    const example = /```toml\n(.*?)```/s.exec(document)?.[1] ?? '';
    const { problems, stores, settingsOfVolume } = resolveConfiguration(
      readToml(example, 'example.toml', '/'),
      [],
    );
    expect(problems).toEqual([]);
    expect(stores).toHaveLength(2);
    expect(settingsOfVolume('ledger')).toMatchObject({
      durability: 'store',
      'cache.memory': 2 ** 30,
      'upload.interval': 1000,
    });
  });

  it('have flags and variables of their own', () => {
    expect(flagName('limits.in_flight')).toBe('--limits-in-flight');
    expect(environmentName('limits.in_flight')).toBe('ELASTICDRIVE_LIMITS_IN_FLIGHT');
    expect(nameInStore('s3.ca_file')).toBe('ca_file');
    for (const nameOf of [flagName, environmentName]) {
      expect(new Set(keyNames.map(nameOf)).size).toBe(keyNames.length);
    }
  });

  it('have defaults that their own kind accepts', () => {
    for (const name of keyNames) {
      const { kind, defaultValue } = keyOf(name);
      if (defaultValue === undefined || defaultValue === null) continue;
      const text = kind.show(defaultValue);
      expect(kind.fromTexts(kind.isList === true ? text.split(' ') : [text], '/')).toEqual(
        defaultValue,
      );
    }
  });
});
