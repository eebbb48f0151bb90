import { expect, test } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { BlockCache } from './block-cache.ts';

const slots = 256;

/** A volume whose block `b` is at present (segment, index) `present[b]`. */
function setUp() {
  const present = new Map<number, string>();
  const cache = new BlockCache(slots * 4096, (block, segment, index) => {
    return present.get(block) === `${segment}:${index}`;
  });
  const write = (block: number, segment: number, index: number): void => {
    present.set(block, `${segment}:${index}`);
    cache.insert(block, segment, index, new Uint8Array(4096).fill(segment ^ index), 0);
  };
  return { cache, present, write };
}

test('gives back what was kept, in part or whole, and nothing else', () => {
  const { cache, write } = setUp();
  write(7, 3, 5);
  const into = new Uint8Array(10);
  expect(cache.copy(3, 5, 4090, 6, into, 2)).toBe(true);
  expect([...into]).toEqual([0, 0, 6, 6, 6, 6, 6, 6, 0, 0]);
  expect(cache.copy(3, 6, 0, 1, into, 0)).toBe(false);
  expect(cache.has(3, 5)).toBe(true);
});

test('scattered overwrites do not push out live blocks while dead ones are there', () => {
  const { cache, present, write } = setUp();
  const random = seededRandom(3);
  const live = Math.floor(slots * 0.75);
  for (let at = 0; at < 20_000; at += 1) {
    const block = Math.floor(random.fraction() * live);
    write(block, 1 + Math.floor(at / 2048), at % 2048);
  }
  let kept = 0;
  for (const place of present.values()) {
    const [segment, index] = place.split(':').map(Number);
    if (cache.has(segment ?? 0, index ?? 0)) kept += 1;
  }
  expect(kept / present.size).toBeGreaterThan(0.95);
});

test('what is used stays when more is read than fits', () => {
  const { cache, write } = setUp();
  for (let block = 0; block < 64; block += 1) write(block, 1, block);
  const into = new Uint8Array(1);
  for (let at = 0; at < 2000; at += 1) {
    write(1000 + at, 2 + Math.floor(at / 2048), at % 2048);
    for (let block = 0; block < 64; block += 1) cache.copy(1, block, 0, 1, into, 0);
  }
  const kept = Array.from({ length: 64 }, (_, block) => cache.has(1, block)).filter(Boolean);
  // The clock only approximates what was used least.
  expect(kept.length).toBeGreaterThanOrEqual(60);
});
