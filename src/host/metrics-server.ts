import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { StorageError, toStorageError } from '../base/errors.ts';
import { expositionType } from './exposition.ts';
import { renderMetrics } from './metrics.ts';
import { formatMetricsAddress, type MetricsAddress } from './metrics-address.ts';
import type { DaemonStatus } from './status.ts';

export interface MetricsServer {
  readonly address: MetricsAddress;
  close(): Promise<void>;
}

const requestTimeoutMs = 10_000;

/** Serves `/metrics` to Prometheus, and `/healthz` and `/readyz` to whoever supervises the daemon. */
export async function serveMetrics(
  wanted: MetricsAddress,
  status: () => DaemonStatus,
): Promise<MetricsServer> {
  const server = createServer({ requestTimeout: requestTimeoutMs }, (incoming, response) => {
    const allowed = incoming.method === 'GET' || incoming.method === 'HEAD';
    try {
      if (!allowed) answer(response, 405, 'GET and HEAD only\n');
      else answerPath(response, incoming.url ?? '/', status);
    } catch (error) {
      // Whoever watches must not be what ends it.
      answer(response, 500, `${toStorageError(error).message}\n`);
    }
  });
  const address = formatMetricsAddress(wanted);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(wanted.port, wanted.host, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const reason =
      error.code === 'EADDRINUSE'
        ? 'another process listens there: choose another with --metrics-listen'
        : error.message;
    const message = `cannot serve metrics on ${address}: ${reason}`;
    throw new StorageError('local-io', message, { cause: error });
  });
  return {
    address: { host: wanted.host, port: (server.address() as AddressInfo).port },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answerPath(response: ServerResponse, url: string, status: () => DaemonStatus): void {
  const path = url.split('?')[0];
  if (path === '/metrics') {
    answer(response, 200, renderMetrics(status()), expositionType);
  } else if (path === '/healthz') {
    // That this is answered at all is what is asked: the event loop turns.
    answer(response, 200, 'ok\n');
  } else if (path === '/readyz') {
    const reason = whyNotReady(status());
    answer(response, reason === undefined ? 200 : 503, `${reason ?? 'ok'}\n`);
  } else {
    answer(response, 404, 'there are /metrics, /healthz and /readyz\n');
  }
}

function answer(
  response: ServerResponse,
  code: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(code, { 'content-type': type, 'cache-control': 'no-store' });
  response.end(body);
}

/** Why clients cannot be served as they should, in one sentence; `undefined` when they can. */
export function whyNotReady({ stopping, listening, volumes }: DaemonStatus): string | undefined {
  if (stopping) return 'The daemon is stopping.';
  if (listening.length === 0) return 'The daemon does not listen yet.';
  const failed = volumes.find(({ failure }) => failure !== undefined);
  return failed?.failure;
}
