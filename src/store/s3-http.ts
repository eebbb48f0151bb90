import { readFile } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { type Dispatcher, Pool } from 'undici';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ReadOptions } from '../base/object-store.ts';
import { cancelled, throwIfAborted } from './cancel.ts';

/** How long each part of a request may take before it counts as failed. */
export interface HttpTimeouts {
  readonly connectMs: number;
  /** From the start of the request, its body included, to the answer's headers. */
  readonly headersMs: number;
  /** Between two pieces of the answer's body. */
  readonly bodyIdleMs: number;
  /** All of it, so that a server that dribbles cannot hold a request for ever. */
  readonly totalMs: number;
  /** How long an unused connection is kept. */
  readonly keepAliveMs: number;
}

export const defaultHttpTimeouts: HttpTimeouts = {
  connectMs: 10_000,
  headersMs: 60_000,
  bodyIdleMs: 30_000,
  totalMs: 180_000,
  keepAliveMs: 4_000,
};

export interface HttpOptions {
  readonly origin: string;
  readonly maxConnections: number;
  readonly maxAnswerBytes: number;
  readonly timeouts: HttpTimeouts;
  /** A PEM file with the authorities to trust in place of the usual ones. */
  readonly caFile: string | undefined;
  readonly clock: Clock;
}

export interface HttpRequest {
  readonly method: 'GET' | 'PUT' | 'DELETE';
  /** Path and query, encoded. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: readonly Uint8Array[];
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Uint8Array;
  /** Whether the server said beforehand how long the body is. */
  readonly lengthKnown: boolean;
}

/** HTTP to one server over a pool of connections. An answer is whole or an error. */
export class HttpClient {
  readonly #options: HttpOptions;
  #pool: Promise<Pool> | undefined;

  constructor(options: HttpOptions) {
    this.#options = options;
  }

  async send(request: HttpRequest, options?: ReadOptions): Promise<HttpAnswer> {
    this.#pool ??= this.#connect();
    const pool = await this.#pool;
    throwIfAborted(options?.signal);
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(this.#options, options, resolve, reject);
      const [only, ...others] = request.body;
      const body = others.length === 0 ? (only ?? null) : request.body;
      pool.dispatch(
        // The type leaves out iterables, which the client documents as bodies.
        { ...request, body: body as Uint8Array | null },
        exchange,
      );
    });
  }

  async close(): Promise<void> {
    if (this.#pool === undefined) return;
    const pool = await this.#pool.catch(() => undefined);
    await pool?.destroy();
  }

  async #connect(): Promise<Pool> {
    const { origin, maxConnections, timeouts, caFile } = this.#options;
    const ca = caFile === undefined ? undefined : await readAuthorities(caFile);
    return new Pool(origin, {
      connections: maxConnections,
      pipelining: 1,
      connect: { timeout: timeouts.connectMs, ...(ca === undefined ? {} : { ca }) },
      headersTimeout: timeouts.headersMs,
      bodyTimeout: timeouts.bodyIdleMs,
      keepAliveTimeout: timeouts.keepAliveMs,
    });
  }
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new StorageError('usage', `The file of authorities ${path} cannot be read.`, {
      cause: error,
    });
  }
}

/** One request under way: collects the answer, at most once resolves or rejects. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #options: HttpOptions;
  readonly #signal: AbortSignal | undefined;
  readonly #allocate: ReadOptions['allocate'];
  readonly #resolve: (answer: HttpAnswer) => void;
  readonly #reject: (error: StorageError) => void;
  readonly #stopTimer: () => void;
  readonly #onAbort: () => void;
  #controller: Dispatcher.DispatchController | undefined;
  #failure: StorageError | undefined;
  #status = 0;
  #headers: IncomingHttpHeaders = {};
  #body: Uint8Array = new Uint8Array(0);
  #filledBytes = 0;
  #lengthKnown = false;

  constructor(
    options: HttpOptions,
    { signal, allocate }: ReadOptions = {},
    resolve: (answer: HttpAnswer) => void,
    reject: (error: StorageError) => void,
  ) {
    this.#options = options;
    this.#allocate = allocate;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    const { totalMs } = options.timeouts;
    this.#stopTimer = options.clock.after(totalMs, () => {
      this.#fail(this.#broken(`took longer than ${totalMs} ms`));
    });
    this.#onAbort = () => {
      if (signal !== undefined) this.#fail(cancelled(signal));
    };
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failure !== undefined) controller.abort(this.#failure);
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    // What comes first may be only a sign that the final answer will follow.
    if (status < 200) return;
    this.#status = status;
    this.#headers = headers;
    const length = headers['content-length'];
    if (length === undefined) return;
    const lengthBytes = Number(length);
    if (!this.#isAllowed(lengthBytes)) return;
    this.#lengthKnown = true;
    // What is not the answer that was asked for is small, and kept for the error's message.
    const allocate = status < 300 ? this.#allocate : undefined;
    this.#body = allocate?.(lengthBytes) ?? new Uint8Array(lengthBytes);
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Uint8Array): void {
    const filledBytes = this.#filledBytes + chunk.length;
    if (this.#failure !== undefined || !this.#isAllowed(filledBytes)) return;
    if (filledBytes > this.#body.length) {
      const grown = new Uint8Array(Math.max(filledBytes, 2 * this.#body.length));
      grown.set(this.#body.subarray(0, this.#filledBytes));
      this.#body = grown;
    }
    this.#body.set(chunk, this.#filledBytes);
    this.#filledBytes = filledBytes;
  }

  onResponseEnd(): void {
    if (this.#lengthKnown && this.#filledBytes !== this.#body.length) {
      this.#fail(this.#broken('gave a shorter answer than it had announced'));
    }
    if (!this.#settle()) return;
    this.#resolve({
      status: this.#status,
      headers: this.#headers,
      body: this.#body.subarray(0, this.#filledBytes),
      lengthKnown: this.#lengthKnown,
    });
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#fail(this.#broken(`failed: ${error.message}`, error));
  }

  #isAllowed(bytes: number): boolean {
    const { maxAnswerBytes } = this.#options;
    if (bytes <= maxAnswerBytes) return true;
    this.#fail(this.#broken(`gave an answer of more than ${maxAnswerBytes} bytes`));
    return false;
  }

  #broken(how: string, cause?: Error): StorageError {
    const message = `A request to ${this.#options.origin} ${how}.`;
    return new StorageError('store-unavailable', message, cause === undefined ? {} : { cause });
  }

  #fail(error: StorageError): void {
    if (!this.#settle()) return;
    this.#failure = error;
    this.#controller?.abort(error);
    this.#reject(error);
  }

  /** True for the first caller: the one that ends the exchange. */
  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    this.#stopTimer();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }

  #settled = false;
}
