import { describe, expect, it } from 'vitest';
import { blockBytes, encodeBlock } from '../crash/history.ts';
import { contentsOf, Ledger, requireSame, Sequences } from './ledger.ts';

function begin(blocks = 4) {
  const sequences = new Sequences();
  const ledger = new Ledger(
    sequences,
    Array.from({ length: blocks }, () => 0),
  );
  const write = (block: number, count = 1): number => {
    const sequence = sequences.next();
    ledger.answer(ledger.send(block, count, sequence));
    return sequence;
  };
  return { sequences, ledger, write };
}

describe('a ledger', () => {
  it('takes the volume as of a moment in between, and no other', () => {
    const { sequences, ledger, write } = begin();
    const first = write(0);
    const from = sequences.now();
    const second = write(1);
    const third = write(2);
    const to = sequences.now();
    const fourth = write(3);
    const moment = (...contents: number[]) =>
      ledger.requireMoment(contents, from, to, 'the snapshot');
    moment(first, 0, 0, 0);
    moment(first, second, 0, 0);
    moment(first, second, third, 0);
    expect(() => moment(0, 0, 0, 0)).toThrow(/block 0 is of write 0; write 1 is missing/);
    expect(() => moment(first, 0, third, 0)).toThrow(/block 1 .* write 2 is missing/);
    expect(() => moment(first, second, third, fourth)).toThrow(/block 3 .* not of then/);
    expect(() => moment(first, 99, 0, 0)).toThrow(/write 99, which is not of then/);
  });

  it('lets a write that was not answered be there or not', () => {
    const { sequences, ledger, write } = begin(2);
    const lost = sequences.next();
    ledger.send(0, 2, lost);
    const from = sequences.now();
    const isRight = (...contents: number[]) =>
      expect(() => ledger.requireMoment(contents, from, sequences.now(), 'it')).not.toThrow();
    isRight(0, 0);
    isRight(lost, 0);
    const later = write(1);
    isRight(0, later);
    isRight(lost, later);
  });

  it('goes on from what was settled, larger or smaller', () => {
    const { sequences, ledger } = begin(2);
    ledger.settle([7, 8]);
    ledger.resize(3);
    ledger.requireMoment([7, 8, 0], sequences.now(), sequences.now(), 'it');
    ledger.resize(1);
    ledger.resize(2);
    ledger.requireMoment([7, 0], sequences.now(), sequences.now(), 'it');
    expect(ledger.blockCount).toBe(2);
  });
});

it('an image says which writes it is of', () => {
  const image = new Uint8Array(3 * blockBytes);
  encodeBlock(image.subarray(blockBytes, 2 * blockBytes), 12, 1);
  expect(contentsOf(image)).toEqual([0, 12, 0]);
  requireSame(contentsOf(image), [0, 12, 0], 'it');
  expect(() => requireSame([0, 12, 0], [0, 13, 0], 'it')).toThrow(/block 1 is of write 12/);
  expect(() => requireSame([0], [0, 13], 'it')).toThrow(/1 blocks, not 2/);
  image[2 * blockBytes] = 1;
  expect(() => contentsOf(image)).toThrow(/nobody wrote/);
});
