import { expect, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { SnapshotSchedules } from '../../src/host/snapshot-schedules.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { holdSnapshot, releaseSnapshot } from '../../src/volume/snapshot-changes.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { VolumeHost } from '../support/volume-host.ts';

const minuteMs = 60_000;

interface Scheduled {
  readonly host: VolumeHost;
  readonly clock: VirtualClock;
  readonly volume: Volume;
  readonly schedules: SnapshotSchedules;
  readonly told: string[];
}

/** A volume that is written while schedules run. */
async function scheduled(texts: readonly string[]): Promise<Scheduled> {
  const clock = new VirtualClock();
  const host = new VolumeHost(createMemoryStore(), {}, 1, clock);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const volume = await host.open('drive');
  const told: string[] = [];
  const schedules = new SnapshotSchedules({
    attached: () => [{ name: 'drive', volume }],
    schedulesOf: () => texts,
    zone: 'UTC',
    clock,
    log: createLog((_level, message) => told.push(message)),
  });
  return { host, clock, volume, schedules, told };
}

async function live({ clock, volume }: Scheduled, minutes: number): Promise<void> {
  for (let minute = 0; minute < minutes; minute += 1) {
    await volume.write(0, new Uint8Array(4096).fill(1 + (minute % 255)), { fua: false });
    await clock.advance(minuteMs);
  }
}

test('snapshots are made, completed and deleted as time goes by, and what others made stays', async () => {
  const at = await scheduled(['every 2m keep 2']);
  await at.volume.createSnapshot({ name: 'mine', tags: { team: 'billing' } });
  at.schedules.start();
  await live(at, 15);
  const own = at.volume.snapshots.filter(({ tags }) => tags['schedule'] === 'every 2m');
  expect(own).toHaveLength(2);
  expect(own.every(({ isCompleted }) => isCompleted)).toBe(true);
  expect(own[1]?.name).toMatch(/^every-2m-\d{8}T\d{6}Z$/);
  expect(at.volume.snapshots.map(({ name }) => name)).toContain('mine');
  await at.schedules.stop();
  const before = at.volume.snapshots.map(({ id }) => id);
  await live(at, 5);
  expect(at.volume.snapshots.map(({ id }) => id)).toEqual(before);
  await at.volume.close();
});

test('one that is held stays until it is released', async () => {
  const at = await scheduled(['every 1m keep 1']);
  at.schedules.start();
  await live(at, 1);
  const [first] = at.volume.snapshots;
  const id = first?.id ?? '';
  await changeManifest(at.host, at.volume.id, (manifest) => holdSnapshot(manifest, id, 'audit'));
  await live(at, 5);
  const ids = (): string[] => at.volume.snapshots.map((each) => each.id);
  expect(ids()).toContain(id);
  await expect(at.volume.deleteSnapshot(id)).rejects.toMatchObject({ code: 'held' });
  await changeManifest(at.host, at.volume.id, (manifest) => releaseSnapshot(manifest, id, 'audit'));
  await live(at, 3);
  expect(ids()).not.toContain(id);
  await at.schedules.stop();
  await at.volume.close();
});

test('a failure is told and made good at the next look', async () => {
  const at = await scheduled(['every 1m keep 3']);
  at.volume.stopWriting(new (class extends Error {})('the disk is full') as never);
  at.schedules.start();
  await at.clock.advance(1000);
  expect(at.told).toEqual(['snapshot not made by its schedule']);
  await at.schedules.stop();
  await at.volume.abandon();
});
