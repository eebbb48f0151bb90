import type { ChangeExtent } from '../../src/base/block-device.ts';
import { isStorageError } from '../../src/base/errors.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import type { Random } from '../../src/base/random.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { blockBytes } from './contents.ts';
import type { Engine } from './engine.ts';
import type { Moments } from './history.ts';
import { chance, choose, pick } from './random.ts';
import type { Session } from './session.ts';
import type { SnapshotJudge, SnapshotRecord } from './snapshots.ts';

/** So little that what is read is given up all the time. */
const memoryBytes = 48 * blockBytes;

export interface VersionSurroundings {
  readonly engine: Engine;
  readonly random: Random;
  readonly moments: Moments;
  readonly judge: SnapshotJudge;
  /** The store as this session's host sees it. */
  readonly store: ObjectStore;
  fail(error: unknown): void;
}

/** A snapshot whose bytes are known, and the manifest that had it then. */
interface KnownSnapshot {
  readonly record: SnapshotRecord;
  readonly content: Uint8Array;
  readonly manifest: Manifest;
}

/**
 * Reads snapshots as their exports do, compares them with each other, and asks the volume what was
 * changed since them, while it is written.
 */
export class VersionRequests {
  private readonly session: Session;
  private readonly around: VersionSurroundings;
  private readonly clock: Clock;

  constructor(session: Session, around: VersionSurroundings) {
    this.session = session;
    this.around = around;
    this.clock = session.life.clock;
  }

  async request(): Promise<void> {
    const known = this.known();
    if (known.length === 0) return;
    const one = choose(this.around.random, known);
    const kind = this.around.random.fraction();
    if (kind < 0.4) return this.changes(one);
    if (kind < 0.8) return this.read(one);
    return this.compare(one, choose(this.around.random, known));
  }

  private known(): KnownSnapshot[] {
    const { manifest, records } = this.around.judge;
    if (manifest === undefined) return [];
    return manifest.snapshots.flatMap(({ name }) => {
      const record = records.get(name);
      const content = record?.content;
      return record === undefined || content === undefined ? [] : [{ record, content, manifest }];
    });
  }

  /** A part of it, by a reader that has nothing yet. */
  private async read({ record, content, manifest }: KnownSnapshot): Promise<void> {
    const { engine, random, store } = this.around;
    const offset = pick(random, content.byteLength);
    const bytes = new Uint8Array(1 + pick(random, content.byteLength - offset));
    await this.ask('snapshot read', offset, [record], async () => {
      const snapshot = manifest.snapshots.find(({ name }) => name === record.name);
      if (snapshot === undefined) return;
      const memory = new engine.VersionMemory(memoryBytes);
      const reader = new engine.SnapshotReader({ store, clock: this.clock, memory });
      const device = await reader.open(manifest, snapshot, { readaheadBytes: 16 * blockBytes });
      await device.read(offset, bytes);
      await device.close();
      const expected = content.subarray(offset, offset + bytes.byteLength);
      if (Buffer.compare(bytes, expected) !== 0)
        this.wrong(`a read of snapshot ${record.name} gave other bytes than it has`);
    });
  }

  /** What is not said to be changed between two of them is the same in both. */
  private async compare(from: KnownSnapshot, to: KnownSnapshot): Promise<void> {
    const { engine, store } = this.around;
    await this.ask('snapshot diff', 0, [from.record, to.record], async () => {
      const pages = new engine.PageCache(memoryBytes);
      const [before, after] = await Promise.all(
        [from, to].map(({ manifest, record }) =>
          engine.snapshotVersion(store, manifest, record.name, pages),
        ),
      );
      if (before === undefined || after === undefined) return;
      const changed = new Set<number>();
      for await (const { offset, lengthBytes } of engine.changedRanges(before, after)) {
        for (let at = 0; at < lengthBytes; at += blockBytes)
          changed.add((offset + at) / blockBytes);
      }
      for (let block = 0; block < to.content.byteLength / blockBytes; block += 1) {
        if (changed.has(block) || isSame(from.content, to.content, block)) continue;
        this.wrong(`block ${block} differs in two snapshots, and is said not to`);
      }
    });
  }

  /** What is not said to be changed in the volume has the bytes of the snapshot. */
  private async changes({ record, content }: KnownSnapshot): Promise<void> {
    const { session } = this;
    const { random, moments } = this.around;
    const asked = moments.next();
    session.history.readers.add(asked);
    await this.ask('changes', 0, [record], async () => {
      const changes = await session.volume.changesSince(record.name);
      if (changes === undefined) {
        if (record.deletion === 'none') this.wrong(`nothing is known of ${record.name}`);
        return;
      }
      const end = Math.min(content.byteLength, session.volume.sizeBytes);
      for (let at = 0; at < end; ) {
        const length = blockBytes * (1 + pick(random, (end - at) / blockBytes));
        const extents = await changes.status(at, length, chance(random, 0.3) ? 1 : 50);
        this.requireUnchanged(at, extents, content, asked);
        at += extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      }
    });
    session.history.readers.delete(asked);
  }

  private requireUnchanged(
    offset: number,
    extents: readonly ChangeExtent[],
    content: Uint8Array,
    asked: number,
  ): void {
    const { history } = this.session;
    const answered = this.around.moments.next();
    let at = offset;
    for (const { lengthBytes, changed } of extents) {
      const end = at + lengthBytes;
      for (; at < end; at += blockBytes) {
        const block = at / blockBytes;
        const bytes = content.subarray(at, at + blockBytes);
        if (changed || block >= history.blockCount) continue;
        if (history.allows(block, bytes, 0, asked, answered)) continue;
        this.wrong(`block ${block} was changed since a snapshot, and is said not to be`);
      }
    }
  }

  private wrong(what: string): void {
    this.around.fail(new Error(what));
  }

  /** An error is none when one of the snapshots was deleted. */
  private async ask(
    name: string,
    at: number,
    records: readonly SnapshotRecord[],
    ask: () => Promise<void>,
  ): Promise<void> {
    await this.session.attempt(name, at, async () => {
      try {
        await ask();
      } catch (error) {
        const isGone = records.some(({ deletion }) => deletion !== 'none');
        if (!isGone || !isStorageError(error) || !['not-found', 'corrupt'].includes(error.code))
          throw error;
      }
    });
  }
}

/** Past its end a volume is nothing but zeroes. */
function isSame(a: Uint8Array, b: Uint8Array, block: number): boolean {
  const [inA, inB] = [a, b].map((content) => {
    const bytes = new Uint8Array(blockBytes);
    bytes.set(content.subarray(block * blockBytes, (block + 1) * blockBytes));
    return bytes;
  }) as [Uint8Array, Uint8Array];
  return Buffer.compare(inA, inB) === 0;
}
