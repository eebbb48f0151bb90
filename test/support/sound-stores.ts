/**
 * Every store that a test has touched is checked when the test is over: whatever happened in it,
 * nothing that is referenced may be missing or damaged, and nothing may lie there that nobody knows.
 */
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { systemRandom } from '../../src/base/random.ts';
import { openStore } from '../../src/store/open-store.ts';
import { listVolumeNames } from '../../src/volume/catalog.ts';
import { checkVolume } from '../../src/volume/check.ts';
import type { CheckReport } from '../../src/volume/check-report.ts';
import type { TestStore } from './daemon.ts';

/** All of the data is read. */
export const allData = { part: 1, parts: 1 } as const;

/** Checks every volume of a store with all of its data; an error says what is wrong with which. */
export async function requireSound(store: ObjectStore): Promise<void> {
  for (const name of await listVolumeNames(store)) {
    requireSoundReport(await checkVolume(store, name, { clock: systemClock, readData: allData }));
  }
}

function requireSoundReport(report: CheckReport): void {
  const wrong = report.problems.filter(({ what }) => what !== 'orphaned');
  if (wrong.length === 0 && report.lostBlocks === 0) return;
  const lines = wrong.map(({ what, object, message }) => `${what} ${object ?? ''}: ${message}`);
  const lost = report.lost.map(
    ({ firstBlock, count, object }) => `lost blocks ${firstBlock}+${count} in ${object}`,
  );
  throw new Error(`volume ${report.volume} is not sound:\n${[...lines, ...lost].join('\n')}`);
}

/** As `requireSound`, for the store that a daemon of a test served. */
export async function requireSoundAt({ url, flags, environment }: TestStore): Promise<void> {
  const endpoint = flags[flags.indexOf('--s3-endpoint') + 1];
  const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } =
    environment;
  const s3 =
    endpoint === undefined ? {} : { endpoint, credentials: { accessKeyId, secretAccessKey } };
  const store = await openStore(url, { clock: systemClock, random: systemRandom, s3 });
  try {
    await requireSound(store);
  } finally {
    await store.close();
  }
}

const watched = new Set<ObjectStore>();
const harmed = new WeakSet<ObjectStore>();

/** The store is to be checked by `requireWatchedSound`. */
export function watchStore(store: ObjectStore): void {
  if (!harmed.has(store)) watched.add(store);
}

/** The test damages the store on purpose: it is not to be checked. */
export function forgetStore(store: ObjectStore): void {
  harmed.add(store);
  watched.delete(store);
}

/** For `afterEach`: checks the stores that were used since the last time. */
export async function requireWatchedSound(): Promise<void> {
  const stores = [...watched];
  watched.clear();
  for (const store of stores) await requireSound(store);
}
