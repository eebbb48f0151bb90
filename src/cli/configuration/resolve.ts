import { didYouMean } from '../did-you-mean.ts';
import type { Assignment } from './assignment.ts';
import {
  type AnyKey,
  type KeyName,
  keyNames,
  keyOf,
  keys,
  nameInStore,
  type Settings,
} from './keys.ts';
import { normalizeStoreUrl, storeUrlHint } from './store-url.ts';

/** One value that was said, and who said it. */
export interface Said {
  /** As in the file: `cache.memory`, `store[0].url`, `volume.scratch.durability`. */
  readonly name: string;
  readonly value: unknown;
  readonly text: string;
  readonly origin: string;
}

export interface StoreConfiguration {
  readonly url: string;
  readonly settings: Settings;
}

/** What all sources together say. */
export interface Resolved {
  readonly settings: Settings;
  /** Empty when no store was named. */
  readonly stores: readonly StoreConfiguration[];
  /** Everything that some source said, by name. */
  readonly said: ReadonlyMap<string, Said>;
  readonly settingsOfVolume: (name: string) => Settings;
  /** Sentences that begin with the place. Where there are any, nothing else here is to be used. */
  readonly problems: readonly string[];
}

/** What an assignment's path means. */
type Target =
  | { readonly name: string; readonly key: AnyKey }
  | { readonly name: string; readonly storeUrl: true }
  | { readonly problem: string };

/** `assignments` of the file come first; those of `overriding` win over all of them. */
export function resolveConfiguration(
  file: readonly Assignment[],
  overriding: readonly Assignment[],
): Resolved {
  const problems: string[] = [];
  const fromFile = readAll(file, problems);
  const fromAbove = readAll(overriding, problems);
  const said = new Map([...fromFile, ...fromAbove]);
  // A flag wins over the file even where the file speaks of one store or volume alone.
  const settingsIn = (part: (name: KeyName) => string): Settings => {
    const settings: Record<string, unknown> = {};
    for (const name of keyNames) {
      const found = fromAbove.get(name) ?? fromFile.get(part(name)) ?? fromFile.get(name);
      settings[name] = found === undefined ? keyOf(name).defaultValue : found.value;
    }
    return settings as Settings;
  };
  const settings = settingsIn((name) => name);
  const tables = storeTables(fromFile, file, problems);
  const urls = settings.store ?? tables.map((table) => table.url);
  const stores = urls.map((url) => {
    const index = tables.find((table) => table.url === url)?.index;
    const part = (name: KeyName): string =>
      index === undefined ? name : `store[${index}].${nameInStore(name)}`;
    return { url, settings: settingsIn(part) };
  });
  return {
    settings,
    stores,
    said,
    settingsOfVolume: (volume) => settingsIn((name) => `volume.${volume}.${name}`),
    problems,
  };
}

function readAll(assignments: readonly Assignment[], problems: string[]): Map<string, Said> {
  const said = new Map<string, Said>();
  for (const assignment of assignments) {
    const { value, origin, baseDirectory } = assignment;
    if ('table' in value) {
      const problem = tableProblem(assignment.path);
      if (problem !== undefined) problems.push(`${origin}: ${problem}`);
      continue;
    }
    const target = targetOf(assignment.path);
    if ('problem' in target) {
      problems.push(`${origin}: ${target.problem}`);
      continue;
    }
    const kind = 'key' in target ? target.key.kind : storeUrlKind;
    const read =
      'texts' in value
        ? kind.fromTexts(value.texts, baseDirectory)
        : kind.fromToml(value.toml, baseDirectory);
    if (read === undefined) {
      problems.push(`${origin}: "${target.name}" expected ${kind.expected}`);
      continue;
    }
    said.set(target.name, { name: target.name, value: read, text: kind.show(read), origin });
  }
  return said;
}

const storeUrlKind = {
  expected: storeUrlHint,
  fromTexts: (): string | undefined => undefined,
  fromToml: (value: unknown, base: string): string | undefined =>
    typeof value === 'string' ? normalizeStoreUrl(value, base) : undefined,
  show: String,
};

function namesOf(scope: AnyKey['scope']): KeyName[] {
  return keyNames.filter((name) => keyOf(name).scope === scope);
}

function targetOf(path: Assignment['path']): Target {
  const [first, second, ...rest] = path;
  if (first === 'store' && typeof second === 'number') return storeTarget(second, rest.join('.'));
  if (first === 'volume' && rest.length > 0) return volumeTarget(String(second), rest.join('.'));
  const name = path.join('.');
  if (Object.hasOwn(keys, name)) return { name, key: keyOf(name as KeyName) };
  const inside = keyNames.filter((each) => each.startsWith(`${name}.`));
  if (inside.length > 0) {
    return { problem: `"${name}" is a table with the keys ${inside.join(', ')}` };
  }
  return { problem: `unknown key "${name}"${didYouMean(name, keyNames)}` };
}

function storeTarget(index: number, field: string): Target {
  const name = `store[${index}].${field}`;
  if (field === 'url') return { name, storeUrl: true };
  const known = namesOf('store');
  const key = known.find((each) => nameInStore(each) === field);
  if (key !== undefined) return { name, key: keyOf(key) };
  const hint = didYouMean(field, ['url', ...known.map(nameInStore)]);
  return { problem: `unknown key "${field}" of a store${hint}` };
}

function volumeTarget(volume: string, field: string): Target {
  const known = namesOf('volume');
  const key = known.find((each) => each === field);
  if (key !== undefined) return { name: `volume.${volume}.${key}`, key: keyOf(key) };
  return { problem: `unknown key "${field}" of a volume${didYouMean(field, known)}` };
}

function tableProblem(path: Assignment['path']): string | undefined {
  const [first, second, third] = path;
  const sections = [...new Set(keyNames.flatMap((name) => name.split('.').slice(0, -1)))];
  const volumeSections = namesOf('volume').flatMap((name) => name.split('.').slice(0, -1));
  if (first === 'store' && typeof second === 'number' && path.length === 2) return undefined;
  if (first === 'volume' && path.length === 2) return undefined;
  if (first === 'volume' && path.length === 3 && volumeSections.includes(String(third))) {
    return undefined;
  }
  if (path.length === 1 && sections.includes(String(first))) return undefined;
  if (first === 'store') return 'write [[store]], with two brackets, once for each store';
  const hint = didYouMean(String(first), [...sections, 'store', 'volume']);
  return `unknown table "${path.join('.')}"${hint}`;
}

interface StoreTable {
  readonly index: number;
  readonly url: string;
}

function storeTables(
  said: ReadonlyMap<string, Said>,
  file: readonly Assignment[],
  problems: string[],
): StoreTable[] {
  const headers = file.filter(
    ({ path, value }) => 'table' in value && path[0] === 'store' && path.length === 2,
  );
  return headers.flatMap(({ path, origin }) => {
    const index = Number(path[1]);
    const url = said.get(`store[${index}].url`);
    if (url !== undefined) return [{ index, url: String(url.value) }];
    const refused = file.some(({ path }) => path.join('.') === `store.${index}.url`);
    if (!refused) problems.push(`${origin}: this store has no "url"; expected ${storeUrlHint}`);
    return [];
  });
}
