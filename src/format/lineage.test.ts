import { expect, test } from 'vitest';
import {
  isOneFamily,
  type Lineage,
  sharedSegments,
  volumeOfCheckpoint,
  volumeOfSegment,
} from './lineage.ts';

const ancestor = (volumeId: string, lastSegment: number, lastEpoch: number) => {
  return { volumeId, snapshotId: `snapshot of ${volumeId}`, lastSegment, lastEpoch };
};

/** The second was cloned before it had written anything of its own. */
const third: Lineage = {
  id: 'third',
  ancestors: [ancestor('first', 10, 4), ancestor('second', 10, 6)],
};

test('a segment is that of the first ancestor that goes so far', () => {
  expect([1, 10, 11].map((segment) => volumeOfSegment(third, segment))).toEqual([
    ...['first', 'first', 'third'],
  ]);
  const later = { id: 'later', ancestors: [ancestor('first', 10, 4), ancestor('second', 12, 6)] };
  expect([10, 11, 12, 13].map((segment) => volumeOfSegment(later, segment))).toEqual([
    ...['first', 'second', 'second', 'later'],
  ]);
  expect(volumeOfSegment({ id: 'alone', ancestors: [] }, 1)).toBe('alone');
});

test('checkpoints of one segment are told apart by their epochs', () => {
  const owners = [4, 5, 6, 7].map((epoch) => volumeOfCheckpoint(third, { segment: 10, epoch }));
  expect(owners).toEqual(['first', 'second', 'second', 'third']);
  expect(volumeOfCheckpoint(third, { segment: 11, epoch: 7 })).toBe('third');
  expect(volumeOfCheckpoint(third, { segment: 3, epoch: 1 })).toBe('first');
});

test('two lineages share the segments up to where the first of them was cloned', () => {
  const first = { id: 'first', ancestors: [] };
  const second = { id: 'second', ancestors: [ancestor('first', 10, 4)] };
  const sibling = { id: 'sibling', ancestors: [ancestor('first', 10, 4)] };
  const late = { id: 'late', ancestors: [ancestor('first', 20, 4)] };
  const grandchild = { id: 'x', ancestors: [ancestor('first', 10, 4), ancestor('second', 30, 6)] };
  const stranger = { id: 'stranger', ancestors: [] };
  const pairs: readonly [Lineage, Lineage, number][] = [
    [first, first, Infinity],
    [second, second, Infinity],
    [first, second, 10],
    [second, sibling, 10],
    [late, second, 10],
    [grandchild, second, 30],
    [grandchild, late, 10],
    [grandchild, third, 10],
    [first, stranger, 0],
    [second, { id: 'second', ancestors: [] }, Infinity],
  ];
  for (const [a, b, expected] of pairs) {
    expect([sharedSegments(a, b), sharedSegments(b, a)]).toEqual([expected, expected]);
    expect(isOneFamily(a, b)).toBe(expected > 0);
  }
  expect(isOneFamily(first, { id: 'early', ancestors: [ancestor('first', 0, 0)] })).toBe(true);
});
