import { seededRandom } from '../../src/base/random.ts';

/** Not secret: it opens the golden volumes and nothing else. */
export const goldenKey = Buffer.alloc(32, 'golden');
/** The first is the ancestor of the second. */
export const goldenNames = ['base', 'clone'] as const;
export const goldenBytes = 2 ** 20;

export interface GoldenFile {
  /** Names the state directory in manifests. */
  readonly host: string;
  readonly objects: Readonly<Record<string, string>>;
  readonly registers: Readonly<Record<string, string>>;
  /** Of the local disk; of a journal file only what was used. */
  readonly files: Readonly<Record<string, string>>;
}

/** What was written, in order: where, and what. */
export function writesOf(
  part: 'first' | 'second' | 'journaled' | 'cloned',
): { readonly at: number; readonly bytes: Uint8Array }[] {
  const seed = { first: 1, second: 2, journaled: 3, cloned: 4 }[part];
  const random = seededRandom(seed);
  return Array.from({ length: 6 }, (_, turn) => ({
    at: Math.floor(random.fraction() * 200) * 4096,
    bytes:
      turn % 2 === 0
        ? random.bytes(8192)
        : new Uint8Array(Buffer.alloc(20_480, `${part} ${turn} `)),
  }));
}

export function contentOf(name: (typeof goldenNames)[number]): Uint8Array {
  const content = new Uint8Array(goldenBytes);
  const parts =
    name === 'base'
      ? (['first', 'second', 'journaled'] as const)
      : (['first', 'second', 'cloned'] as const);
  for (const part of parts) for (const { at, bytes } of writesOf(part)) content.set(bytes, at);
  return content;
}
