import { expect, test } from 'vitest';
import { remainsDead, type Roots } from './roots.ts';

const at = (segment: number, epoch = 1, variant = 0) => ({ segment, epoch, variant });
const before: Roots = { checkpoints: [at(10), at(4)], logFrom: 10 };

test('what was dead stays dead while the volume goes on and snapshots come and go', () => {
  expect(remainsDead(before, before)).toBe(true);
  expect(remainsDead(before, { checkpoints: [at(12), at(4)], logFrom: 12 })).toBe(true);
  expect(remainsDead(before, { checkpoints: [at(12)], logFrom: 12 })).toBe(true);
  // A rollback: made of a snapshot, as of the end of the log.
  expect(remainsDead(before, { checkpoints: [at(12, 2, 1), at(10)], logFrom: 12 })).toBe(true);
});

test('an older map that counts again, or more of the log that is kept, proves nothing', () => {
  expect(remainsDead(before, { checkpoints: [at(12), at(6)], logFrom: 12 })).toBe(false);
  expect(remainsDead(before, { checkpoints: [at(12), at(4, 2)], logFrom: 12 })).toBe(false);
  expect(remainsDead(before, { checkpoints: [at(12)], logFrom: 9 })).toBe(false);
});
