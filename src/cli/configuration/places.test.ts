import { describe, expect, it } from 'vitest';
import { loadConfiguration } from './load.ts';
import { likelyStateDirectories, stateDirectoryOf, storesOf } from './places.ts';

const here = '/no/such/directory';

async function placesWith(store: string | undefined, environment: Record<string, string>) {
  const configuration = await loadConfiguration({
    configFile: undefined,
    flags: new Map(store === undefined ? [] : [['store', [store]]]),
    environment,
    workingDirectory: here,
  });
  return {
    stores: storesOf(configuration, here).stores.map(({ url }) => url),
    state: () => stateDirectoryOf(configuration, environment, here),
    likely: likelyStateDirectories(configuration, environment, here),
  };
}

describe('places', () => {
  it('are under the working directory when nobody says anything', async () => {
    const { stores, state, likely } = await placesWith(undefined, { HOME: '/home/u' });
    expect(stores).toEqual([`file://${here}/elasticdrive-data/store`]);
    expect(state()).toBe(`${here}/elasticdrive-data/state`);
    expect(likely).toEqual([
      `${here}/elasticdrive-data/state`,
      '/home/u/.local/state/elasticdrive',
      '/var/lib/elasticdrive',
    ]);
  });

  it.each([
    [{ HOME: '/home/u' }, '/home/u/.local/state/elasticdrive'],
    [{ HOME: '/home/u', XDG_STATE_HOME: '/state' }, '/state/elasticdrive'],
    [{ HOME: '/home/u', STATE_DIRECTORY: '/var/lib/a:/var/lib/b' }, '/var/lib/a'],
    [{ ELASTICDRIVE_STATE_DIR: '/mine', STATE_DIRECTORY: '/var/lib/a' }, '/mine'],
  ])('are where the system keeps state when a store is named: %j', async (environment, where) => {
    const { stores, state } = await placesWith('s3://b', environment);
    expect(stores).toEqual(['s3://b']);
    expect(state()).toBe(where);
  });

  it('must be named where there is no home', async () => {
    const { state } = await placesWith('s3://b', {});
    expect(state).toThrow('--state-dir');
  });
});
