import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import type * as Surface from './surface.ts';

/** What the simulator runs: the product's own modules, as they are or patched. */
export type Engine = typeof Surface;

/** A change of the source as it is loaded: of one text that is there exactly once. */
export interface Patch {
  /** Under `src/`. */
  readonly file: string;
  readonly find: string;
  readonly put: string;
}

const surfaceUrl = new URL('surface.ts', import.meta.url).href;
const sourceRoot = new URL('../../src/', import.meta.url).href;
/** What all variants share: an error's class must be one for all. */
const sharedRoot = `${sourceRoot}base/`;
const patchesOf = new Map<string, readonly Patch[]>();
let isHooked = false;

/**
 * The engine from the working tree, with `patches` made to its source while it is loaded. Each call
 * gives modules of their own, so that several variants live side by side and none changes a file.
 */
export async function loadEngine(patches: readonly Patch[] = []): Promise<Engine> {
  for (const patch of patches) requireOnce(patch);
  if (!isHooked) hook();
  const variant = `?variant=${patchesOf.size}`;
  patchesOf.set(variant, patches);
  return (await import(surfaceUrl + variant)) as Engine;
}

function requireOnce({ file, find }: Patch): void {
  const count = readFileSync(new URL(file, sourceRoot), 'utf8').split(find).length - 1;
  if (count !== 1) throw new Error(`src/${file} has, ${count} times instead of once, "${find}"`);
}

function hook(): void {
  isHooked = true;
  registerHooks({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      const variant = /\?variant=\d+$/.exec(context.parentURL ?? '')?.[0];
      const { url } = resolved;
      const isOwn = url.startsWith(sourceRoot) && !url.startsWith(sharedRoot);
      return variant === undefined || !isOwn ? resolved : { ...resolved, url: url + variant };
    },
    load(url, context, next) {
      const loaded = next(url, context);
      const [path = '', variant = ''] = url.split(/(?=\?variant=\d+$)/);
      const own = patchesOf.get(variant)?.filter(({ file }) => path === sourceRoot + file) ?? [];
      if (own.length === 0 || !(loaded.source instanceof Uint8Array)) return loaded;
      let source = Buffer.from(loaded.source).toString();
      for (const { find, put } of own) source = source.replace(find, () => put);
      return { ...loaded, source };
    },
  });
}
