import type { Random } from '../../src/base/random.ts';

/** A whole number from 0 up to, not including, `count`. */
export function pick(random: Random, count: number): number {
  return Math.floor(random.fraction() * count);
}

export function chance(random: Random, share: number): boolean {
  return share > 0 && random.fraction() < share;
}

export function choose<T>(random: Random, items: readonly T[]): T {
  return items[pick(random, items.length)] as T;
}
