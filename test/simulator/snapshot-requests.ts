import { isStorageError } from '../../src/base/errors.ts';
import type { Snapshot } from '../../src/format/snapshot.ts';
import { chance, choose } from './random.ts';
import type { Session } from './session.ts';
import type { SnapshotRecord } from './snapshots.ts';
import { VersionRequests, type VersionSurroundings } from './version-requests.ts';

/** Of one volume, at most. */
const mostSnapshots = 5;

/** Makes, reads and deletes snapshots of an attached volume, as its clients or from elsewhere. */
export class SnapshotRequests {
  private readonly session: Session;
  private readonly around: VersionSurroundings;
  private readonly versions: VersionRequests;

  constructor(session: Session, around: VersionSurroundings) {
    this.session = session;
    this.around = around;
    this.versions = new VersionRequests(session, around);
  }

  async request(): Promise<void> {
    const { random } = this.around;
    if (chance(random, 0.4)) return this.versions.request();
    const isFull = this.present.length >= mostSnapshots;
    if (!isFull && chance(random, 0.75)) return this.create();
    if (this.present.length > 0) await this.delete(choose(random, this.present));
  }

  private get present(): readonly Snapshot[] {
    return this.around.judge.manifest?.snapshots ?? [];
  }

  async deleteOldest(): Promise<void> {
    const [oldest] = this.present;
    if (oldest !== undefined) await this.delete(oldest);
  }

  async create(waits = chance(this.around.random, 0.4)): Promise<void> {
    const { session } = this;
    const { judge, moments } = this.around;
    const { history } = session;
    const record = judge.ask(history, moments.next());
    let id = '';
    const isAnswered = await session.attempt('snapshot', judge.records.size, () =>
      unlessDeleted(record, async () => {
        ({ id } = await session.volume.createSnapshot({ name: record.name }));
      }),
    );
    judge.answer(record, history, moments.next());
    const isMade = isAnswered && id !== '';
    record.isPromised = isMade && !session.life.isContested;
    if (isMade && waits) await this.complete(record, id);
  }

  private async complete(record: SnapshotRecord, id: string): Promise<void> {
    await this.session.attempt('completed', 0, () =>
      unlessDeleted(record, async () => {
        await this.session.volume.whenSnapshotCompleted(id);
        if (!record.isCompleted)
          throw new Error(`${record.name} was said to be completed too soon`);
      }),
    );
  }

  private async delete({ id, name }: Snapshot): Promise<void> {
    const { session } = this;
    const { random, judge } = this.around;
    const record = judge.records.get(name);
    if (record === undefined) return;
    const before = record.deletion;
    if (before === 'none') record.deletion = 'asked';
    let isDone = false;
    const volumeId = judge.manifest?.id ?? '';
    const isOwn = chance(random, 0.5);
    await session.attempt('snapshot delete', 0, async () => {
      try {
        if (isOwn) await session.volume.deleteSnapshot(id);
        else isDone = await this.deleteElsewhere(volumeId, id);
        isDone ||= isOwn;
      } catch (error) {
        // Clones read it: nothing was done, and it stays.
        if (!isStorageError(error, 'in-use') || !judge.everCloned.has(id)) throw error;
        record.deletion = before;
      }
    });
    if (isDone) record.deletion = 'done';
  }

  /** As another host would, whoever has the volume; false when its writer was quicker all the time. */
  private async deleteElsewhere(volumeId: string, id: string): Promise<boolean> {
    const { engine, random, store } = this.around;
    try {
      await engine.changeManifest({ store, random }, volumeId, (manifest) =>
        engine.removeSnapshot(manifest, id),
      );
      return true;
    } catch (error) {
      if (!isStorageError(error, 'conflict')) throw error;
      return false;
    }
  }
}

/** Does something with a snapshot, which may be told that it is gone once its deletion was asked for. */
async function unlessDeleted(record: SnapshotRecord, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!isStorageError(error, 'not-found') || record.deletion === 'none') throw error;
  }
}
