import { expect, test } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { wrapCalls } from '../../src/store/wrap-calls.ts';
import type { Durability } from '../../src/format/manifest.ts';
import { Lease } from '../../src/volume/lease.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { VolumeHost } from '../support/volume-host.ts';

const leaseMs = 60_000;
const plain = { fua: false };
const blockOf = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

/** A volume whose first block is 1s, in the store, on a host whose way to the store can fail. */
async function attached(durability: Durability) {
  const memory = createMemoryStore();
  const clock = new VirtualClock();
  const plan: FaultPlan = {};
  const store = withFaults(memory, { clock, random: seededRandom(3), plan });
  const settings = { leaseMs, uploadIntervalMs: 1000, retryMaximumMs: 1000, checkpointIdleMs: 1e6 };
  const host = new VolumeHost(store, settings, 1, clock);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20, durability });
  const volume = await host.open('drive');
  const written = volume.write(0, blockOf(1), { fua: true });
  await clock.advance(3000);
  await written;
  const other = new VolumeHost(memory, settings, 2, new VirtualClock());
  return { volume, clock, plan, other };
}

/** What came of a request: undefined while it waits. */
function outcome(done: Promise<unknown> | undefined): { error?: unknown; done?: true } {
  const seen: { error?: unknown; done?: true } = {};
  Promise.resolve(done).then(
    () => {
      seen.done = true;
    },
    (error: unknown) => {
      seen.error = error;
    },
  );
  return seen;
}

async function overwritten(other: VolumeHost): Promise<Volume> {
  const taken = await other.open('drive', { takeOver: 'now' });
  await taken.write(0, blockOf(2), plain);
  return taken;
}

test.each(['local', 'store'] as const)(
  'who wakes after its lease reads nothing and flushes nothing before it has asked: %s',
  async (durability) => {
    const { volume, clock, other } = await attached(durability);
    await volume.write(4096, blockOf(3), plain);
    clock.jump(leaseMs);
    const taken = await overwritten(other);
    const into = new Uint8Array(4096);
    const requests = [
      volume.read(0, into),
      volume.flush(),
      volume.write(8192, blockOf(4), plain),
      volume.status(0, 4096, 4),
    ].map(outcome);
    expect(volume.statistics().leaseRemainingMs).toBe(0);
    await clock.advance(5000);
    for (const { error } of requests) {
      expect(error).toMatchObject({
        code: 'lost-ownership',
        message: expect.stringContaining(`taken by ${other.name} (epoch 2`) as string,
      });
    }
    expect(into).toEqual(new Uint8Array(4096));
    await volume.abandon();
    await taken.abandon();
  },
);

test('who wakes after its lease and still has the volume goes on', async () => {
  const { volume, clock } = await attached('store');
  clock.jump(leaseMs * 100);
  const into = new Uint8Array(4096);
  const read = outcome(volume.read(0, into));
  await clock.advance(0);
  expect(read).toEqual({ done: true });
  expect(into).toEqual(blockOf(1));
  expect(volume.read(0, into)).toBe(undefined);
  expect(volume.statistics().leaseRemainingMs).toBeGreaterThan(0);
  await volume.abandon();
});

test('a machine whose monotonic clock stood still while it was suspended asks, too', async () => {
  const { volume, clock } = await attached('local');
  const before = clock.wallMs();
  clock.wallMs = () => before + leaseMs;
  const read = volume.read(0, new Uint8Array(4096));
  expect(read).toBeInstanceOf(Promise);
  clock.wallMs = () => before;
  await read;
  await volume.abandon();
});

test('with the store away, local durability goes on past the lease with what it has', async () => {
  const { volume, clock, plan } = await attached('local');
  plan.errorBefore = 1;
  await clock.advance(leaseMs * 20);
  expect(volume.statistics().leaseRemainingMs).toBe(0);
  const into = new Uint8Array(4096);
  expect(volume.read(0, into)).toBe(undefined);
  expect(into).toEqual(blockOf(1));
  const flushed = outcome(volume.write(0, blockOf(5), { fua: true }));
  await clock.advance(10);
  expect(flushed).toEqual({ done: true });
  plan.errorBefore = 0;
  await clock.advance(5000);
  expect(volume.statistics().leaseRemainingMs).toBeGreaterThan(leaseMs / 2);
  await volume.abandon();
});

test('with the store away, store durability answers no read past the lease, but takes writes', async () => {
  const { volume, clock, plan } = await attached('store');
  plan.errorBefore = 1;
  await clock.advance(leaseMs * 20);
  const read = outcome(volume.read(0, new Uint8Array(4096)));
  await volume.write(4096, blockOf(5), plain);
  const flushed = outcome(volume.flush());
  await clock.advance(leaseMs);
  expect(read.error).toMatchObject({ code: 'store-unavailable' });
  expect(flushed).toEqual({});
  const patient = outcome(volume.read(0, new Uint8Array(4096)));
  plan.errorBefore = 0;
  await clock.advance(15_000);
  expect([flushed, patient]).toEqual([{ done: true }, { done: true }]);
  await volume.abandon();
});

test('a lease counts from when it was asked for, not from the answer', async () => {
  const clock = new VirtualClock();
  let asks = 0;
  const lease = new Lease(clock, leaseMs, () => {
    asks += 1;
  });
  const asked = lease.now();
  clock.jump(leaseMs / 2);
  lease.renewed(asked);
  expect(lease.remainingMs).toBeCloseTo(leaseMs * 0.4);
  expect(lease.certain('ours', true)).toBe(undefined);
  clock.jump(leaseMs / 2);
  const waiting = outcome(lease.certain('ours', true));
  expect([asks, lease.remainingMs]).toEqual([1, 0]);
  // An answer to what was asked before the sleep says nothing of the time after it.
  lease.renewed(asked);
  expect(lease.isAwaited).toBe(true);
  const silent = new StorageError('store-unavailable', 'silent');
  lease.unanswered(asked, silent);
  expect(lease.isAwaited).toBe(true);
  // Who has slept past the lease is not helped by a store that is silent then.
  const read = outcome(lease.certain('unheard', false));
  lease.unanswered(lease.now(), silent);
  expect(lease.certain('unheard', true)).toBeInstanceOf(Promise);
  lease.renewed(lease.now());
  expect(lease.isAwaited).toBe(false);
  expect(waiting.error).toBe(undefined);
  await Promise.resolve();
  expect(read.error).toBe(silent);
});

test('what is under way when the volume is lost fails at once', async () => {
  const { volume, clock, plan, other } = await attached('store');
  plan.errorBefore = 1;
  plan.only = (operation) => operation === 'put';
  const written = volume.write(0, blockOf(6), { fua: true });
  const flushed = outcome(written);
  await clock.advance(10_000);
  expect(flushed).toEqual({});
  const taken = await overwritten(other);
  await clock.advance(leaseMs);
  expect(flushed.error).toMatchObject({ code: 'lost-ownership' });
  await volume.abandon();
  await taken.abandon();
});

test('a flush to the store asks for the manifest after all is put; many ask together', async () => {
  const memory = createMemoryStore();
  const calls: string[] = [];
  const store = wrapCalls(memory, async ({ operation, key, make }) => {
    const result = await make();
    calls.push(`${operation} ${key.split('/')[2]}`);
    return result;
  });
  const clock = new VirtualClock();
  const settings = { leaseMs, uploadIntervalMs: 1000, checkpointIdleMs: 1e6 };
  const host = new VolumeHost(store, settings, 1, clock);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20, durability: 'store' });
  const volume = await host.open('drive');
  const flushed = outcome(volume.write(0, blockOf(1), { fua: true }));
  calls.length = 0;
  await clock.advance(100);
  expect(flushed).toEqual({ done: true });
  expect(calls).toEqual(['put segments', 'load manifest.json']);
  await volume.write(0, blockOf(2), plain);
  const many = Array.from({ length: 16 }, () => outcome(volume.flush()));
  calls.length = 0;
  await clock.advance(100);
  expect(many.every(({ done }) => done)).toBe(true);
  expect(calls).toEqual(['put segments', 'load manifest.json']);
  await volume.abandon();
});

test('that a change was not made is no silence: whose the volume is, reading it says', async () => {
  const { volume, clock, plan, other } = await attached('local');
  const taken = await overwritten(other);
  clock.jump(leaseMs);
  // What a store says when it cannot know whether it was ours or the other's change.
  Object.assign(plan, { errorBefore: 1, only: (operation: string) => operation === 'swap' });
  const requests = [
    volume.read(0, new Uint8Array(4096)),
    volume.write(4096, blockOf(3), { fua: true }),
  ].map(outcome);
  await clock.advance(0);
  for (const { error } of requests) expect(error).toMatchObject({ code: 'lost-ownership' });
  await volume.abandon();
  await taken.abandon();
});

test('who wakes past its lease while the store is away answers nothing, and fails no write', async () => {
  const { volume, clock, plan } = await attached('local');
  plan.errorBefore = 1;
  clock.jump(leaseMs);
  const read = outcome(volume.read(0, new Uint8Array(4096)));
  const flushed = outcome(volume.write(0, blockOf(5), { fua: true }));
  await clock.advance(leaseMs * 3);
  expect(read.error).toMatchObject({ code: 'store-unavailable' });
  expect(flushed).toEqual({});
  plan.errorBefore = 0;
  await clock.advance(15_000);
  expect(flushed).toEqual({ done: true });
  await volume.abandon();
});
