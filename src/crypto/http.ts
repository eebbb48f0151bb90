import { readFile } from 'node:fs/promises';
import { Agent, request } from 'undici';
import { StorageError } from '../base/errors.ts';

export interface KeyServerRequest {
  /** "the Tang server http://10.0.0.1": for errors. */
  readonly server: string;
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** A PEM file with the authorities to trust in place of the usual ones. */
  readonly authorityFile?: string | undefined;
}

export interface KeyServerAnswer {
  readonly status: number;
  readonly text: string;
}

const connectMs = 10_000;
const answerMs = 20_000;
const answerMaximumBytes = 256 * 1024;

/** One request to a server of keys. `wrong-key` when it cannot be had: then the key cannot be had. */
export async function askKeyServer(asked: KeyServerRequest): Promise<KeyServerAnswer> {
  const { server, method, url, headers = {}, body } = asked;
  const dispatcher = new Agent({
    connect: { timeout: connectMs, ...(await authorityIn(asked.authorityFile)) },
    headersTimeout: answerMs,
    bodyTimeout: answerMs,
    maxResponseSize: answerMaximumBytes,
  });
  try {
    const answer = await request(url, {
      ...{ method, headers, body: body ?? null, dispatcher },
      signal: AbortSignal.timeout(connectMs + answerMs),
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new StorageError('wrong-key', `${server} cannot be reached (${code ?? message})`, {
      cause,
    });
  } finally {
    await dispatcher.destroy();
  }
}

async function authorityIn(file: string | undefined): Promise<{ readonly ca?: Buffer }> {
  if (file === undefined) return {};
  try {
    return { ca: await readFile(file) };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message = `cannot read the authorities of the server in ${file} (${code})`;
    throw new StorageError('wrong-key', message, { cause });
  }
}

/** What a server said, as far as an error may repeat it. */
export function briefly(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim();
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}

export function parseAnswer(server: string, text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch {
    // As any other answer that is not what was asked for.
  }
  throw new StorageError('wrong-key', `${server} answers with something else than was asked for`);
}
