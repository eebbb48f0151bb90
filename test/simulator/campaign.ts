import { type Engine, loadEngine } from './engine.ts';
import { type Outcome, runSeed } from './run.ts';
import { type ShapeName, shapes } from './shapes.ts';

/** What many seeds did in all. */
export interface Totals {
  seeds: number;
  crashes: number;
  servingCrashes: number;
  operations: number;
  recoveries: number;
  travels: number;
  clones: number;
  flattened: number;
  snapshots: number;
  virtualMs: number;
  seconds: number;
}

/** Most seeds run the engine with small sizes, which costs least; some with its own. */
export function shapeOf(seed: number): ShapeName {
  if (seed % 128 === 127) return 'full';
  return seed % 8 === 7 ? 'small' : 'tiny';
}

/** Runs seeds one after the other and adds up what they did. */
export class Campaign {
  readonly totals: Totals = {
    seeds: 0,
    crashes: 0,
    servingCrashes: 0,
    operations: 0,
    recoveries: 0,
    travels: 0,
    clones: 0,
    flattened: 0,
    snapshots: 0,
    virtualMs: 0,
    seconds: 0,
  };
  private readonly engines = new Map<ShapeName, Engine>();

  /** One seed; `shape` is what the seed says unless it is given. */
  async run(seed: number, isShown = false, shape = shapeOf(seed)): Promise<Outcome> {
    const engine = this.engines.get(shape) ?? (await loadEngine(shapes[shape]));
    this.engines.set(shape, engine);
    const startedMs = performance.now();
    const outcome = await runSeed(engine, seed, isShown);
    const { totals } = this;
    totals.seeds += 1;
    totals.crashes += outcome.crashes;
    totals.servingCrashes += outcome.servingCrashes;
    totals.operations += outcome.operations;
    totals.recoveries += outcome.attached;
    totals.travels += outcome.travels;
    totals.clones += outcome.clones;
    totals.flattened += outcome.flattened;
    totals.snapshots += outcome.snapshots;
    totals.virtualMs += outcome.virtualMs;
    totals.seconds += (performance.now() - startedMs) / 1000;
    return outcome;
  }
}
