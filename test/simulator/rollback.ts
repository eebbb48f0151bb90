import { blockBytes } from './contents.ts';
import type { History, Version } from './history.ts';
import { choose } from './random.ts';
import type { Session } from './session.ts';
import type { SnapshotRecord } from './snapshots.ts';
import type { World } from './world.ts';

/** A volume is to become what a snapshot holds: all of its blocks in one step, or none of them. */
export class Rollback {
  readonly epoch: number;
  private readonly history: History;
  private readonly asked: number;
  private readonly versions: Version[];

  constructor(session: Session, content: Uint8Array, asked: number) {
    const { history, epoch, volume } = session;
    this.epoch = epoch;
    this.history = history;
    this.asked = asked;
    const askedMs = volume.logTimeMs;
    this.versions = Array.from({ length: history.blockCount }, (_, block) => {
      const bytes = new Uint8Array(blockBytes);
      bytes.set(content.subarray(block * blockBytes, (block + 1) * blockBytes));
      return history.ask(block, bytes, asked, askedMs);
    });
  }

  answered(answered: number, answeredMs: number): void {
    for (const version of this.versions) Object.assign(version, { answered, answeredMs });
    this.history.promiseInStore(this.asked);
  }

  /** The volume was attached again: it was done if all of it is there, else it never happened. */
  settle(found: readonly Uint8Array[]): void {
    const isDone = this.versions.every(
      ({ bytes }, block) => Buffer.compare(bytes, found[block] ?? bytes) === 0,
    );
    if (!isDone) this.history.withdraw(new Set(this.versions));
  }
}

/** An operator rolls the volume back, which ends this session; nobody else uses it. */
export async function rollBack(world: World, session: Session): Promise<void> {
  const { judge, moments, random, sizes } = world;
  const { history, volume } = session;
  const known = (judge.manifest?.snapshots ?? [])
    .map(({ name }) => judge.records.get(name))
    .filter((record): record is SnapshotRecord => record?.deletion === 'none')
    .filter(({ content }) => content !== undefined);
  if (known.length === 0 || history !== world.history || session.isOver) return;
  const { name, content = new Uint8Array(0) } = choose(random, known);
  session.isOver = true;
  session.isClosing = true;
  const present = judge.ask(history, moments.next());
  const rollback = new Rollback(session, content, moments.next());
  world.rollback = rollback;
  const sized = sizes.ask(content.byteLength / blockBytes);
  const isDone = await session.attempt('rollback', 0, () => volume.rollback(name, present.name));
  judge.answer(present, history, moments.next());
  present.isPromised = isDone;
  if (!isDone || world.history !== history) return;
  world.rollback = undefined;
  sized();
  rollback.answered(moments.next(), volume.logTimeMs);
}
