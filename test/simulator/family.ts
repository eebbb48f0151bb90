import type { Clock } from '../../src/base/clock.ts';
import { isStorageError, toStorageError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { blockBytes } from './contents.ts';
import { Drama, type Others } from './drama.ts';
import { Life } from './process.ts';
import { profileOfClone } from './profile.ts';
import { chance, choose, pick } from './random.ts';
import type { Session } from './session.ts';
import type { SnapshotRecord } from './snapshots.ts';
import { World } from './world.ts';

const hourMs = 3_600_000;
/** Events between two attempts to make or delete a clone, at most. */
const calmEvents = 600;
/** Events between two attempts to flatten one, at most. */
const calmFlatEvents = 80;
/** A process that clones or deletes lives at most so long where it is killed. */
const longestMs = 60;

/** A volume and what is done with it. */
interface Member {
  readonly world: World;
  readonly drama: Drama;
  /** Whose clone it is, and of which snapshot; `undefined` for the first. */
  readonly parent: Member | undefined;
  readonly record: SnapshotRecord | undefined;
  /** It is being deleted: nobody uses it, and nothing is made of it. */
  isDying: boolean;
  isGone: boolean;
}

/** A clone that was asked for and did not come about yet. */
interface Asked {
  readonly parent: Member;
  readonly record: SnapshotRecord;
}

/**
 * Makes clones of snapshots, of the volume and of its clones, by processes that may be killed at any
 * moment, flattens them while they are used, and deletes them and what nobody needs any more. Each is a volume with hosts, clients and crashes of its own, that
 * must begin as its snapshot was, and be what its own clients make of it.
 */
export class Family implements Others {
  private readonly members: Member[];
  private readonly asked = new Map<string, Asked>();
  private readonly random;
  /** Decides what is flattened, and when: all else is decided as it would be without. */
  private readonly flatRandom;
  private count = 0;
  private calm = 0;
  private calmFlat = 0;
  private isHealed = false;
  /** Clones and deletions that are under way. */
  private underWay = 0;

  constructor(world: World, drama: Drama, seed: number) {
    this.random = seededRandom(seed);
    this.flatRandom = seededRandom(seed + 1);
    const first = { world, drama, parent: undefined, record: undefined };
    this.members = [{ ...first, isDying: false, isGone: false }];
    world.store.onNamed = (name, id) => this.named(name, id);
  }

  private get first(): Member {
    return this.members[0] as Member;
  }

  /** Those that may be cloned and deleted. */
  private get living(): Member[] {
    return this.members.filter(({ isDying }) => !isDying);
  }

  private get clones(): Member[] {
    return this.living.filter(({ parent }) => parent !== undefined);
  }

  /** Told of each event. */
  tick(): void {
    for (const { drama } of this.clones) drama.tick();
    this.calmFlat -= 1;
    if (this.calmFlat <= 0 && !this.isHealed) {
      this.calmFlat = 1 + pick(this.flatRandom, calmFlatEvents);
      this.flattenOne();
    }
    this.calm -= 1;
    if (this.calm > 0 || this.isHealed || this.first.world.profile.cloneCount === 0) return;
    this.calm = 1 + pick(this.random, calmEvents);
    const isFull = this.clones.length >= this.first.world.profile.cloneCount;
    if (isFull || chance(this.random, 0.15)) this.deleteOne();
    else this.cloneOne();
  }

  private cloneOne(): void {
    const wanted = this.living.flatMap((parent) =>
      [...parent.world.judge.records.values()]
        .filter(({ content, deletion }) => content !== undefined && deletion === 'none')
        .map((record) => ({ parent, record })),
    );
    if (wanted.length === 0) return;
    const asked = choose(this.random, wanted);
    this.count += 1;
    const name = `clone-${this.count}`;
    this.asked.set(name, asked);
    void this.clone(name, asked);
  }

  /** A process of its own, which is often killed. */
  private mortal(): Life {
    const { scheduler } = this.first.world;
    const life = new Life(scheduler, this.random.fraction() * 1000);
    if (chance(this.random, 0.5)) {
      scheduler.after(this.random.fraction() * longestMs, () => {
        if (!this.isHealed) life.kill();
      });
    }
    return life;
  }

  private async clone(name: string, { parent, record }: Asked): Promise<void> {
    const { world } = parent;
    const { engine, trace, store, profile, scheduler } = world;
    const manifest = world.judge.manifest;
    const snapshot = manifest?.snapshots.find((each) => each.name === record.name);
    if (manifest === undefined || snapshot === undefined) return;
    const life = this.mortal();
    trace.add('clone', `${world.name}@${record.name} ${name}`, 0);
    this.underWay += 1;
    try {
      await engine.cloneVolume(
        { store: store.for(life, profile.patience), clock: life.clock, random: this.random },
        { name, sourceId: manifest.id, snapshotId: snapshot.id },
      );
      trace.add('cloned', name, 0);
      if (this.asked.has(name)) throw new Error(`${name} was made and has no name`);
    } catch (thrown) {
      const error = toStorageError(thrown);
      trace.add('not cloned', `${name}: ${error.message}`, 0);
      const isLate = ['conflict', 'not-found'].includes(error.code);
      // Whose answer was lost finds his own name there, or his own manifest.
      const isExcused = isLate || (store.hasErred && isStorageError(thrown));
      if (!isExcused) scheduler.fail(thrown);
    } finally {
      this.underWay -= 1;
    }
  }

  /** A name was made: whatever becomes of who made it, the clone is there. */
  private named(name: string, volumeId: string): void {
    const asked = this.asked.get(name);
    if (asked === undefined) return;
    this.asked.delete(name);
    const { parent, record } = asked;
    const { content } = record;
    if (content === undefined) throw new Error('a snapshot was cloned that nobody has read');
    const blocks = Array.from({ length: content.byteLength / blockBytes }, (_, block) =>
      content.slice(block * blockBytes, (block + 1) * blockBytes),
    );
    const profile = profileOfClone(parent.world.profile, blocks.length);
    const seed = pick(this.random, 2 ** 31);
    const world = new World(parent.world.engine, profile, seed, false, {
      ...{ parent: parent.world, name, blocks },
    });
    const drama = new Drama(world);
    const member = { world, drama, parent, record, isDying: false, isGone: false };
    this.members.push(member);
    world.counters.clones += 1;
    if (this.isHealed) drama.calmDown();
    void world.store.lookAt(volumeId).then(() => {
      this.requireKept(member);
      if (!this.isHealed) drama.begin();
    });
  }

  /** Somebody who has a clone makes it independent of all others. */
  private flattenOne(): void {
    const session = choose(this.flatRandom, [
      undefined,
      ...this.clones.map((each) => this.sessionOf(each)),
    ]);
    if (session !== undefined) void this.flatten(session);
  }

  /** Of the youngest first, for one that others were cloned from is refused. */
  private async flattenSome(): Promise<void> {
    for (const member of [...this.clones].reverse()) {
      const session = this.sessionOf(member);
      if (session !== undefined && chance(this.flatRandom, 0.6)) await this.flatten(session);
    }
  }

  private sessionOf({ world }: Member): Session | undefined {
    return world.hosts.find(
      ({ session }) => session?.isAdopted === true && session.history === world.history,
    )?.session;
  }

  private async flatten(session: Session): Promise<void> {
    const { counters } = this.first.world;
    await session.attempt('flatten', 0, async () => {
      try {
        const { wasClone } = await session.volume.flatten({ mayForget: true });
        if (wasClone) counters.flattened += 1;
      } catch (error) {
        // Others were cloned from it.
        if (!isStorageError(error, 'in-use')) throw error;
      }
    });
  }

  /** Whether a volume names another that it descends from, as one that it reads from or did until now. */
  private names({ world }: Member, ancestor: Member): boolean {
    const { volumeId } = ancestor.world.store;
    const ancestors = world.judge.manifest?.ancestors;
    return ancestors === undefined || ancestors.some((each) => each.volumeId === volumeId);
  }

  private needs({ world }: Member, ancestor: Member): boolean {
    const { volumeId } = ancestor.world.store;
    const ancestors = world.judge.manifest?.ancestors ?? [];
    return ancestors.some((each) => each.volumeId === volumeId && each.lastSegment > 0);
  }

  /** What a clone reads is kept for it: each ancestor still has the snapshot, and knows why. */
  private requireKept(member: Member): void {
    const id = member.world.store.volumeId;
    for (let at = member; at.parent !== undefined; at = at.parent) {
      const { world } = at.parent;
      if (!this.needs(member, at.parent)) continue;
      const snapshot = world.judge.manifest?.snapshots.find(({ name }) => name === at.record?.name);
      if (snapshot?.clones.some(({ volumeId }) => volumeId === id) === true) continue;
      world.scheduler.fail(
        new Error(`${world.name}@${at.record?.name} is not kept for ${member.world.name}`),
      );
    }
  }

  private deleteOne(): void {
    const childless = this.clones.filter((member) => !this.hasOffspring(member));
    if (childless.length === 0) return;
    const member = choose(this.random, childless);
    member.isDying = true;
    void this.delete(member);
  }

  /** Of those that are there or asked for, whatever became of them. */
  private hasOffspring(member: Member): boolean {
    return (
      [...this.asked.values()].some((each) => descends(each, member)) ||
      this.descendantsOf(member).some((each) => this.names(each, member))
    );
  }

  private descendantsOf(member: Member): Member[] {
    return this.members.filter((each) => !each.isGone && descends(each, member));
  }

  private async delete(member: Member): Promise<void> {
    const { world } = member;
    const { engine, trace, store, profile } = world;
    trace.add('delete', world.name, 0);
    member.drama.calmDown();
    for (const host of world.hosts) world.kill(host);
    const life = this.mortal();
    this.underWay += 1;
    try {
      const context = { clock: life.clock, random: this.random, takeOver: 'now' } as const;
      await engine.deleteVolume(store.for(life, profile.patience), world.name, context);
      member.isGone = true;
      store.leave();
      trace.add('deleted', world.name, 0);
    } catch (thrown) {
      const error = toStorageError(thrown);
      trace.add('not deleted', `${world.name}: ${error.message}`, 0);
      const isLate = error.code === 'conflict';
      if (!isLate && !store.hasErred) world.scheduler.fail(thrown);
    } finally {
      this.underWay -= 1;
    }
  }

  heal(): void {
    this.isHealed = true;
    for (const { drama } of this.clones) drama.heal();
  }

  /** All clones come to their end; then all that there is is deleted, and nothing must be left. */
  async end(): Promise<void> {
    const { profile } = this.first.world;
    if (profile.cloneCount === 0) return;
    await this.flattenSome();
    for (const member of this.members) {
      if (member.parent !== undefined && !member.isDying) {
        this.requireKept(member);
        member.world.trace.add('ending', member.world.name, 0);
        await member.drama.end();
        this.requireKept(member);
      }
      await this.deleteUnneeded(member);
    }
    await this.deleteAll();
  }

  /** One that only such come from as were flattened: those are to come to their end without it. */
  private async deleteUnneeded(member: Member): Promise<void> {
    const offspring = this.descendantsOf(member);
    if (member.isDying || offspring.length === 0) return;
    if (offspring.some((each) => this.names(each, member))) return;
    member.world.trace.add('unneeded', member.world.name, 0);
    await this.remove(member.world.name);
    member.isGone = true;
  }

  private remove(name: string): Promise<void> {
    const { engine, store, scheduler } = this.first.world;
    // Of those who were killed, something may be left that is known to be stale only later.
    const clock: Clock = {
      monotonicMs: () => scheduler.monotonicMs(),
      wallMs: () => scheduler.wallMs() + 2 * hourMs,
      after: (delayMs, action) => scheduler.after(delayMs, action),
      soon: (action) => scheduler.soon(action),
    };
    return engine.deleteVolume(store.truth, name, { clock, random: this.random, takeOver: 'now' });
  }

  private async deleteAll(): Promise<void> {
    for (const member of [...this.members].reverse()) {
      if (member.isGone && !member.isDying) continue;
      await this.requireRefused(member);
      try {
        await this.remove(member.world.name);
      } catch (error) {
        // One whose deletion was interrupted has no name any more, or has it again, and something that
        // came late; it goes with its ancestor.
        const isExcused = isStorageError(error, 'not-found') || isStorageError(error, 'corrupt');
        if (!isExcused || !member.isDying) throw error;
      }
      member.isGone = true;
    }
    await this.requireNothingLeft();
  }

  /**
   * Of volumes that were deleted while all went wrong, a request that is done long after it was given up
   * may bring something back, to which no name leads.
   */
  private async requireNothingLeft(): Promise<void> {
    const { store } = this.first.world;
    const orderly = this.members.filter(({ isDying }) => !isDying);
    const ids = new Set(orderly.map(({ world }) => world.store.volumeId));
    const names = new Set(orderly.map(({ world }) => `names/${world.name}`));
    const { keys } = await store.truth.list('');
    const left = keys
      .map(({ key }) => key)
      .filter((key) => names.has(key) || ids.has(key.split('/')[1]));
    if (left.length > 0) throw new Error(`all was deleted, and this is left: ${left.join(' ')}`);
  }

  /** The ancestors of a volume that is there cannot be deleted. */
  private async requireRefused(member: Member): Promise<void> {
    if (member.isDying) return;
    for (let at = member.parent; at !== undefined; at = at.parent) {
      if (!this.needs(member, at)) continue;
      const outcome = await this.remove(at.world.name).then(
        () => 'done',
        (error: unknown) => toStorageError(error).code,
      );
      if (outcome !== 'in-use') {
        throw new Error(`deleting ${at.world.name}, which ${member.world.name} reads: ${outcome}`);
      }
    }
  }
}

function descends({ parent }: Pick<Member, 'parent'>, member: Member): boolean {
  for (let at = parent; at !== undefined; at = at.parent) if (at === member) return true;
  return false;
}
