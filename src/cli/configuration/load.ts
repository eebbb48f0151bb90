import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { isStorageError, StorageError } from '../../base/errors.ts';
import type { Assignment } from './assignment.ts';
import { readEnvironment, readFlags } from './environment.ts';
import type { FirstDrive } from './ini.ts';
import type { KeyName } from './keys.ts';
import { type Resolved, resolveConfiguration } from './resolve.ts';

export interface Sources {
  /** `--config`, as it was given. */
  readonly configFile: string | undefined;
  readonly flags: ReadonlyMap<KeyName, readonly string[]>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
}

export interface Configuration extends Resolved {
  /** The file that was read, if any. */
  readonly file: string | undefined;
  /** Set when the file is the INI file of the first ElasticDrive. */
  readonly firstDrive: FirstDrive | undefined;
  readonly warnings: readonly string[];
}

/**
 * Reads the configuration file (the one that is named, else the first that exists), then the
 * environment, then the flags; the later wins. Problems are collected, not thrown, but for a file
 * that cannot be read at all: a `usage` error.
 */
export async function loadConfiguration(sources: Sources): Promise<Configuration> {
  const { environment, flags, workingDirectory } = sources;
  const read = await findFile(sources);
  const problems: string[] = [];
  let assignments: Assignment[] = [];
  let firstDrive: FirstDrive | undefined;
  if (read !== undefined) {
    try {
      ({ assignments, firstDrive } = await parseFile(read));
    } catch (error) {
      if (!isStorageError(error, 'usage')) throw error;
      problems.push(error.message);
    }
  }
  const fromEnvironment = readEnvironment(environment, workingDirectory);
  const overriding = [...fromEnvironment.assignments, ...readFlags(flags, workingDirectory)];
  const resolved = resolveConfiguration(assignments, overriding);
  return {
    ...resolved,
    problems: [...problems, ...resolved.problems],
    file: read?.file,
    firstDrive,
    warnings: fromEnvironment.warnings,
  };
}

/** The configuration, or a `usage` error with its first problem. */
export function requireSound(configuration: Configuration): Configuration {
  const [first, ...more] = configuration.problems;
  if (first === undefined) return configuration;
  const rest =
    more.length === 0 ? '' : ` (and ${more.length} more: see "elasticdrive config check")`;
  throw new StorageError('usage', `${first}${rest}`);
}

interface FoundFile {
  /** As it was named: how messages call it. */
  readonly file: string;
  readonly directory: string;
  readonly text: string;
}

async function parseFile({
  file,
  directory,
  text,
}: FoundFile): Promise<{ assignments: Assignment[]; firstDrive: FirstDrive | undefined }> {
  const { looksLikeIni, readIni } = await import('./ini.ts');
  if (looksLikeIni(text, file)) {
    const { assignments, drive } = readIni(text, file, directory);
    return { assignments, firstDrive: drive };
  }
  const { readToml } = await import('./toml.ts');
  return { assignments: readToml(text, file, directory), firstDrive: undefined };
}

async function findFile(sources: Sources): Promise<FoundFile | undefined> {
  const { configFile, environment, workingDirectory } = sources;
  if (configFile !== undefined) {
    const file = resolve(workingDirectory, configFile);
    const text = await readText(file);
    if (text !== undefined) return { file: configFile, directory: dirname(file), text };
    throw new StorageError('usage', `there is no configuration file ${configFile}`);
  }
  for (const file of searchPath(environment, workingDirectory)) {
    const text = await readText(file);
    if (text !== undefined) return { file, directory: dirname(file), text };
  }
  return undefined;
}

/** Where a configuration file is looked for when none is named, in this order. */
export function searchPath(
  environment: Sources['environment'],
  workingDirectory: string,
): string[] {
  const home = environment['HOME'];
  const configHome =
    environment['XDG_CONFIG_HOME'] || (home === undefined ? undefined : join(home, '.config'));
  return [
    join(workingDirectory, 'elasticdrive.toml'),
    ...(configHome === undefined ? [] : [join(configHome, 'elasticdrive', 'config.toml')]),
    '/etc/elasticdrive/config.toml',
  ];
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new StorageError('usage', `cannot read the configuration file ${file} (${code})`, {
      cause: error,
    });
  }
}
