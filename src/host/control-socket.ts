import { mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import {
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { errorTraits, type ErrorCode, StorageError, toStorageError } from '../base/errors.ts';
import { socketPathBytes } from './listen-address.ts';

export interface ControlRequest {
  readonly query: URLSearchParams;
}

/** By `METHOD /path`; an answer is sent as JSON, a failure as `{"error": {"code", "message"}}`. */
export type ControlRoutes = Readonly<
  Record<string, ((request: ControlRequest) => unknown) | undefined>
>;

/** The daemon's control socket: JSON over HTTP over a Unix socket that only its user may open. */
export interface ControlServer {
  readonly socketPath: string;
  close(): Promise<void>;
}

const socketName = 'control.sock';
/** Holds the socket's path where that is not the usual one in the state directory. */
const pointerName = 'control.path';
const temporaryPrefix = 'elasticdrive-';
const answerBytesMaximum = 16 * 2 ** 20;
const answerTimeoutMs = 10_000;

/**
 * Serves `routes` at `socketPath`, or in the state directory, which the caller has locked: a socket
 * that is still there belongs to a process that is gone.
 */
export async function serveControl(
  stateDirectory: string,
  socketPath: string | undefined,
  routes: ControlRoutes,
): Promise<ControlServer> {
  await removeOldSocket(stateDirectory);
  const path = await choosePath(stateDirectory, socketPath);
  const server = createServer((incoming, response) => {
    void answer(routes, incoming, response);
  });
  await listenPrivately(server, path);
  return {
    socketPath: path,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await removeOldSocket(stateDirectory);
    },
  };
}

async function answer(
  routes: ControlRoutes,
  { method, url = '/' }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { pathname, searchParams } = new URL(url, 'http://daemon');
  let body: unknown;
  try {
    const route = routes[`${method} ${pathname}`];
    if (route === undefined) {
      throw new StorageError('not-found', `there is nothing to ${method} at ${pathname}`);
    }
    body = await route({ query: searchParams });
  } catch (error) {
    const { code, message } = toStorageError(error);
    response.statusCode = code === 'not-found' ? 404 : code === 'usage' ? 400 : 409;
    body = { error: { code, message } };
  }
  response.setHeader('content-type', 'application/json');
  response.end(`${JSON.stringify(body)}\n`);
}

async function choosePath(stateDirectory: string, wanted: string | undefined): Promise<string> {
  const usual = join(stateDirectory, socketName);
  if (wanted === undefined && Buffer.byteLength(usual) <= socketPathBytes) return usual;
  const path = wanted ?? join(await makeShortDirectory(), socketName);
  await rm(path, { force: true });
  await writeFile(join(stateDirectory, pointerName), path, { mode: 0o600 });
  return path;
}

function makeShortDirectory(): Promise<string> {
  return mkdtemp(join(process.env['XDG_RUNTIME_DIR'] || tmpdir(), temporaryPrefix));
}

async function removeOldSocket(stateDirectory: string): Promise<void> {
  const path = await findControlSocket(stateDirectory);
  await rm(path, { force: true });
  await rm(join(stateDirectory, pointerName), { force: true });
  const directory = dirname(path);
  if (directory !== stateDirectory && basename(directory).startsWith(temporaryPrefix)) {
    // Only one that we made is empty now; any other stays.
    await rmdir(directory).catch(() => undefined);
  }
}

async function listenPrivately(server: Server, path: string): Promise<void> {
  // The socket is bound before `listen` returns, so the mask holds for it and for nothing else.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
      process.umask(mask);
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const message = `cannot open the control socket ${path}: ${reason}`;
    throw new StorageError('local-io', message, { cause: error });
  } finally {
    process.umask(mask);
  }
}

/** Where the daemon of that state directory answers, whether or not there is one. */
export async function findControlSocket(stateDirectory: string): Promise<string> {
  const pointer = await readFile(join(stateDirectory, pointerName), 'utf8').catch(() => '');
  return isAbsolute(pointer) ? pointer : join(stateDirectory, socketName);
}

/**
 * The parsed answer of the daemon, for `POST` however long that takes, or the error that it answers
 * with; `undefined` when none is listening there.
 */
export async function askControl(
  socketPath: string,
  path: string,
  method: 'GET' | 'POST' = 'GET',
): Promise<unknown> {
  const timeout = method === 'GET' ? answerTimeoutMs : 0;
  const text = await new Promise<string | undefined>((resolve, reject) => {
    const asking = request({ socketPath, path, method, timeout, agent: false }, (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        parts.push(part);
        bytes += part.length;
        if (bytes > answerBytesMaximum) asking.destroy(new Error('the answer is too long'));
      });
      response.on('error', reject);
      response.on('end', () => resolve(Buffer.concat(parts).toString()));
    });
    asking.on('timeout', () => asking.destroy(new Error('no answer in time')));
    asking.on('error', reject);
    asking.end();
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ECONNREFUSED') {
      const message = `the daemon at ${socketPath} did not answer: ${error.message}`;
      throw new StorageError('local-io', message, { cause: error });
    }
    return undefined;
  });
  if (text === undefined) return undefined;
  const parsed = JSON.parse(text) as unknown;
  throwErrorIn(parsed);
  return parsed;
}

function throwErrorIn(answered: unknown): void {
  if (typeof answered !== 'object' || answered === null || !('error' in answered)) return;
  const { code, message } = answered.error as { code: ErrorCode; message: string };
  // A daemon of another version may know other codes.
  throw new StorageError(code in errorTraits ? code : 'internal', message);
}
