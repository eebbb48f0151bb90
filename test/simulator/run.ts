import { seededRandom } from '../../src/base/random.ts';
import { Drama } from './drama.ts';
import type { Engine } from './engine.ts';
import { Family } from './family.ts';
import {
  makeProfile,
  withClones,
  withEncryption,
  withNetwork,
  withPast,
  withProxy,
} from './profile.ts';
import { ProxiedDrama } from './proxied.ts';
import { pick } from './random.ts';
import { type Counters, World } from './world.ts';

export interface Outcome extends Counters {
  readonly seed: number;
  readonly hash: number;
  readonly virtualMs: number;
  readonly events: number;
  /** Snapshots that were read, each byte. */
  readonly snapshots: number;
  readonly failure: Error | undefined;
  /** The last of what happened, when it was asked for. */
  readonly lines: readonly string[];
}

/** One world in so many has its clients on the network, where each request takes many more events. */
const networkOneIn = 4;

/** Of those on the network one in so many has a proxy that outlives the daemon. */
const proxyOneIn = 3;

/** One world in so many keeps what was written, to be gone back to. */
const pastOneIn = 3;

/** One world in so many has clones. */
const clonesOneIn = 4;

/** One world in so many is encrypted. */
const encryptedOneIn = 3;

/** Runs one seed to its end. */
export async function runSeed(engine: Engine, seed: number, isShown = false): Promise<Outcome> {
  const plain = makeProfile(engine, seededRandom(seed + 2));
  const network = seededRandom(seed + 3);
  const isOnNetwork = pick(network, networkOneIn) === 0;
  const reached = isOnNetwork ? withNetwork(plain, network) : plain;
  const isProxied = isOnNetwork && pick(network, proxyOneIn) === 0;
  const past = seededRandom(seed + 6);
  const hasPast = !isProxied && pick(past, pastOneIn) === 0;
  const kept = isProxied ? withProxy(reached) : hasPast ? withPast(reached, past) : reached;
  const clones = seededRandom(seed + 7);
  const hasClones = !isProxied && pick(clones, clonesOneIn) === 0;
  const branched = hasClones ? withClones(kept, clones) : kept;
  const encrypted = seededRandom(seed + 9);
  const isEncrypted = pick(encrypted, encryptedOneIn) === 0;
  const profile = isEncrypted ? withEncryption(branched, encrypted) : branched;
  const world = new World(engine, profile, seed, isShown);
  let failure: Error | undefined;
  const strayed = (error: unknown): void => world.scheduler.fail(error);
  process.on('unhandledRejection', strayed);
  try {
    if (isProxied) await new ProxiedDrama(world).play();
    else {
      const drama = new Drama(world);
      await drama.play(hasClones ? new Family(world, drama, seed + 8) : {});
    }
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  } finally {
    process.off('unhandledRejection', strayed);
  }
  return {
    ...world.counters,
    seed,
    hash: world.trace.hash >>> 0,
    virtualMs: world.scheduler.elapsedMs,
    events: world.scheduler.happened,
    snapshots: world.judge.readCount,
    failure,
    lines: world.trace.lines,
  };
}
