import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '../base/errors.ts';
import { runProgram } from './run-program.ts';
import { wipe } from './wiping.ts';

export interface Passphrase {
  /** Whoever asked for it wipes them. */
  readonly bytes: Uint8Array;
  /** "in FILE", "of COMMAND": for errors. */
  readonly from: string;
}

/** Gives the passphrase of the key of this name. */
export type AskPassphrase = (keyName: string) => Promise<Passphrase>;

export interface PassphraseSources {
  /** A file, or `-` for standard input. */
  readonly file?: string | undefined;
  /** A line for the shell; `ELASTICDRIVE_KEY` is the name of the key. */
  readonly command?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readStandardInput: () => Promise<Uint8Array>;
}

const passphraseMaximumBytes = 4096;
/** Somebody may have to touch a token. */
const commandTimeLimitMs = 120_000;

/** Where it is looked for when nobody named a place: what systemd keeps for its services. */
export function credentialNames(keyName: string): string[] {
  return [`elasticdrive.${keyName}`, 'elasticdrive.password'];
}

/** The place that was named, else the credentials that systemd gave to this service. */
export function passphraseFrom(sources: PassphraseSources): AskPassphrase {
  let fromStandardInput: Promise<Uint8Array> | undefined;
  return async (keyName) => {
    const { file, command, environment } = sources;
    if (file === '-') {
      // It can be read only once, and may be needed for several volumes.
      fromStandardInput ??= sources.readStandardInput();
      return passphrase(await fromStandardInput, 'on standard input');
    }
    if (file !== undefined) return takeOver(await readSecret(file), `in ${file}`);
    if (command !== undefined) {
      const output = await runProgram({
        name: `"${command}"`,
        command: ['/bin/sh', '-c', command],
        stdin: new Uint8Array(0),
        environment: { ...environment, ELASTICDRIVE_KEY: keyName },
        timeLimitMs: commandTimeLimitMs,
      });
      return takeOver(output, `of "${command}"`);
    }
    const directory = environment['CREDENTIALS_DIRECTORY'];
    for (const name of directory === undefined ? [] : credentialNames(keyName)) {
      const path = join(directory ?? '', name);
      const bytes = await readSecret(path, true);
      if (bytes !== undefined) return takeOver(bytes, `in the credential ${name}`);
    }
    throw new StorageError(
      'wrong-key',
      `the passphrase of the key "${keyName}" is needed: say where it is with password_file or password_command (--password-file, --password-command)`,
    );
  };
}

function passphrase(bytes: Uint8Array, from: string): Passphrase {
  if (bytes.length > passphraseMaximumBytes) {
    throw new StorageError('usage', `the passphrase ${from} is longer than 4096 bytes`);
  }
  // What editors and `echo` put at the end of a line is not part of it.
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end -= bytes[end - 2] === 0x0d ? 2 : 1;
  if (end === 0) throw new StorageError('usage', `the passphrase ${from} is empty`);
  return { bytes: Uint8Array.from(bytes.subarray(0, end)), from };
}

function takeOver(bytes: Uint8Array, from: string): Passphrase {
  try {
    return passphrase(bytes, from);
  } finally {
    wipe(bytes);
  }
}

async function readSecret(path: string): Promise<Uint8Array>;
async function readSecret(path: string, mayLack: true): Promise<Uint8Array | undefined>;
async function readSecret(path: string, mayLack?: true): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (mayLack === true && code === 'ENOENT') return undefined;
    throw new StorageError('wrong-key', `cannot read the passphrase in ${path} (${code})`, {
      cause,
    });
  }
}
