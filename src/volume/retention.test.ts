import { expect, test } from 'vitest';
import type { Manifest } from '../format/manifest.ts';
import {
  isFloorDue,
  keepFrom,
  keepLess,
  retentionFromBirth,
  storedThrough,
  turned,
  withRetention,
} from './retention.ts';

const hourMs = 3_600_000;
const plain: Manifest = {
  id: '00'.repeat(16),
  name: 'drive',
  sizeBytes: 4096,
  createdAt: '2026-01-01T00:00:00.000Z',
  codec: 'none',
  durability: 'local',
  epoch: 3,
  closedThrough: 3,
  tenures: [],
  writer: undefined,
  head: undefined,
  placement: undefined,
  ancestors: [],
  snapshots: [],
  nonce: '',
};

const at = (segment: number, variant = 0): { segment: number; epoch: number; variant: number } => ({
  segment,
  epoch: 3,
  variant,
});

test('turning retention on keeps nothing yet; longer and shorter leave what is kept as it is', () => {
  const on = withRetention(plain, hourMs);
  expect(on.retention?.keptFrom).toBeUndefined();
  const begun = keepFrom(on, { checkpoint: at(4), timeMs: 500 });
  expect(keepFrom(begun, { checkpoint: at(9), timeMs: 900 })).toBe(begun);
  const longer = withRetention(begun, 2 * hourMs);
  expect(longer.retention).toEqual({ ...begun.retention, retainMs: 2 * hourMs });
  expect(withRetention(longer, 2 * hourMs)).toBe(longer);
  const off = withRetention(longer, 0);
  expect(off.retention).toBeUndefined();
  expect(keepFrom(off, { checkpoint: at(9), timeMs: 900 })).toBe(off);
  expect(keepLess(off, { checkpoint: at(9), timeMs: 900 })).toBe(off);
  expect(storedThrough(off, 900)).toBe(off);
});

test('what is kept begins later, never earlier, and forgets the turns before it', () => {
  const born = { ...plain, retention: retentionFromBirth(hourMs, 100) };
  const rolledBack = turned(turned(born, at(2, 1), 2, 300), at(5, 2), 5, 700);
  expect(rolledBack.retention?.turns).toHaveLength(2);
  const less = keepLess(rolledBack, { checkpoint: at(4), timeMs: 650 });
  expect(less.retention?.keptFrom).toEqual({ checkpoint: at(4), timeMs: 650 });
  expect(less.retention?.turns.map(({ segment }) => segment)).toEqual([5]);
  expect(keepLess(less, { checkpoint: at(2, 1), timeMs: 300 })).toBe(less);
});

test('the store has more and more, whatever a slow change says', () => {
  const born = { ...plain, retention: retentionFromBirth(hourMs, 100) };
  expect(storedThrough(born, 900).retention?.storedThroughMs).toBe(900);
  expect(storedThrough(storedThrough(born, 900), 500).retention?.storedThroughMs).toBe(900);
});

test('what can go is looked for once it is a sixteenth more than was asked for', () => {
  const retention = retentionFromBirth(16_000, 100_000);
  expect(isFloorDue(retention, 116_500)).toBe(false);
  expect(isFloorDue(retention, 117_001)).toBe(true);
  expect(isFloorDue({ ...retention, keptFrom: undefined }, 900_000)).toBe(false);
});
