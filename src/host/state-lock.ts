import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StorageError } from '../base/errors.ts';

const lockFile = 'daemon.lock';
const pidFile = 'daemon.pid';

export interface StateLock {
  release(): Promise<void>;
}

/**
 * Takes a state directory for this process; makes it when it is not there. The lock is the
 * kernel's, held through an exclusive SQLite transaction that never writes, because Node has no
 * call for file locks of its own: it ends with the process, however that dies, and is never stale.
 * `held` when a living process has it.
 */
export async function lockStateDirectory(directory: string): Promise<StateLock> {
  await makePrivateDirectory(directory);
  const database = openDatabase(join(directory, lockFile));
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (!isBusy(error)) throw localError(directory, error);
    const pid = await readPid(directory);
    const who = pid === undefined ? 'another process' : `the process ${pid}`;
    throw new StorageError(
      'held',
      `the state directory ${directory} is in use by ${who}: stop it, or give this daemon one of its own with --state-dir`,
    );
  }
  await writeFile(join(directory, pidFile), `${process.pid}\n`, { mode: 0o600 });
  return {
    async release() {
      await rm(join(directory, pidFile), { force: true });
      database.close();
    },
  };
}

/** The process that holds the directory, as far as it says so itself. */
async function readPid(directory: string): Promise<number | undefined> {
  const text = await readFile(join(directory, pidFile), 'utf8').catch(() => '');
  return /^\d+\n$/.test(text) ? Number(text) : undefined;
}

async function makePrivateDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw localError(directory, error);
  }
}

function openDatabase(file: string): DatabaseSync {
  try {
    return new DatabaseSync(file, { timeout: 0 });
  } catch (error) {
    throw localError(file, error);
  }
}

/** SQLITE_BUSY, the primary code in the low byte of the extended one. */
function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === 5;
}

function localError(path: string, cause: unknown): StorageError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StorageError('local-io', `cannot use ${path} as state directory: ${reason}`, {
    cause,
  });
}
