import { describe, expect, it } from 'vitest';
import { blockBytes, encodeBlock, History, type Promised, Violation } from './history.ts';

const blocks = 4;

/** A volume whose blocks hold these writes; 0 is zeroes. */
function image(...sequences: number[]): Uint8Array {
  const bytes = new Uint8Array(blocks * blockBytes);
  sequences.forEach((sequence, block) => {
    if (sequence === 0) return;
    encodeBlock(bytes.subarray(block * blockBytes, (block + 1) * blockBytes), sequence, block);
  });
  return bytes;
}

/** Writes 1, 2, 3 and 4, one after the other, to blocks 0, 1, 0 and 2; flushed after the second. */
function history(): History {
  const made = new History(blocks);
  made.answer(made.send(0, 1));
  made.answer(made.send(1, 1));
  made.flushed(made.sendFlush());
  made.answer(made.send(0, 1));
  made.answer(made.send(2, 1));
  return made;
}

describe('a history of writes', () => {
  it.each<[string, number[], Promised]>([
    ['all', [3, 2, 4, 0], 'all'],
    ['all but the last', [3, 2, 0, 0], 'flushed'],
    ['what was flushed', [1, 2, 0, 0], 'flushed'],
    ['nothing, where the disk is gone', [0, 0, 0, 0], 'prefix'],
    ['the first alone, where the disk is gone', [1, 0, 0, 0], 'prefix'],
  ])('allows %s', (_, found, promised) => {
    expect(() => history().verify(image(...found), promised)).not.toThrow();
  });

  it.each<[string, number[], Promised, RegExp]>([
    ['a flushed write missing', [1, 0, 0, 0], 'flushed', /block 1 .* write 2 is lost.* promised/],
    [
      'an older write than the flushed one',
      [0, 2, 0, 0],
      'prefix',
      /write 1 is lost, which was ans/,
    ],
    ['the last without the one before', [1, 2, 4, 0], 'prefix', /block 0 .*write 3 is lost/],
    ['one that was answered missing', [3, 2, 0, 0], 'all', /write 4 is lost, which was promised/],
    ['a write in a wrong place', [3, 2, 4, 4], 'prefix', /block 3 holds write 4, which was/],
  ])('refuses %s', (_, found, promised, message) => {
    expect(() => history().verify(image(...found), promised)).toThrow(message);
  });

  it('refuses torn and foreign bytes', () => {
    const torn = image(3, 2, 4, 0);
    torn.fill(0, 512, 1024);
    expect(() => history().verify(torn, 'prefix')).toThrow(/block 0 says it is .* torn/);
    const foreign = image(3, 2, 4, 0).fill(7, 3 * blockBytes);
    expect(() => history().verify(foreign, 'prefix')).toThrow(/block 3 holds bytes that nobody/);
  });

  it('leaves the order of concurrent writes open, also of those that were never answered', () => {
    const made = new History(blocks);
    const [one, two] = [made.send(0, 2), made.send(0, 2)];
    made.answer(two);
    made.answer(one);
    expect(() => made.verify(image(1, 2), 'all')).not.toThrow();
    made.send(0, 1);
    expect(() => made.verify(image(3, 2), 'flushed')).not.toThrow();
  });

  it('tells zeroes that were written from a hole that was always there', () => {
    const trimmed = () => {
      const made = new History(blocks);
      made.answer(made.send(0, 1));
      made.answer(made.send(0, 1, true));
      made.answer(made.send(1, 1));
      return made;
    };
    expect(() => trimmed().verify(image(0, 3), 'prefix')).not.toThrow();
    expect(() => trimmed().verify(image(1, 3), 'prefix')).toThrow(/write 0 is lost/);
    expect(() => trimmed().verify(image(0, 0), 'prefix')).not.toThrow();
  });

  it('goes on from what another disk found, which must not change any more', () => {
    const made = history();
    expect(made.verify(image(1, 2, 0, 0), 'flushed')).toBe(2);
    expect(() => made.verify(image(0, 2, 0, 0), 'prefix')).toThrow(Violation);
    const again = history();
    again.verify(image(1, 2, 0, 0), 'flushed');
    expect(() => again.verify(image(3, 2, 0, 0), 'prefix')).toThrow(
      /write 3, which was overwritten/,
    );
  });

  it('lets what one disk recovered be lost with it, from its end, and not otherwise', () => {
    const recovered = () => {
      const made = history();
      made.verify(image(3, 2, 0, 0), 'disk');
      made.answer(made.send(3, 1));
      return made;
    };
    expect(() => recovered().verify(image(3, 2, 0, 5), 'disk')).not.toThrow();
    expect(() => recovered().verify(image(3, 2, 0, 0), 'disk')).not.toThrow();
    expect(() => recovered().verify(image(1, 2, 0, 0), 'disk')).toThrow(
      /write 3 is lost.*promised/,
    );
    expect(() => recovered().verify(image(3, 2, 4, 0), 'disk')).toThrow(/write 4, which was/);
    expect(() => recovered().verify(image(1, 2, 0, 0), 'flushed')).not.toThrow();
    expect(() => recovered().verify(image(1, 0, 0, 0), 'flushed')).toThrow(/write 2 is lost/);
    expect(() => recovered().verify(image(1, 0, 0, 0), 'prefix')).not.toThrow();
    expect(() => recovered().verify(image(1, 2, 0, 5), 'prefix')).toThrow(/write 3 is lost/);
  });

  it('holds a write with FUA to be durable, and with it all before', () => {
    const made = new History(blocks);
    made.answer(made.send(0, 1));
    made.answer(made.send(1, 1), true);
    expect(() => made.verify(image(0, 2), 'flushed')).toThrow(/write 1 is lost/);
    expect(made.verify(image(1, 2), 'flushed')).toBe(0);
  });
});
