import { request } from 'node:http';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { DurationHistogram } from '../base/histogram.ts';
import { Exposition } from './exposition.ts';
import { MeteredDevice } from './metered-device.ts';
import { formatMetricsAddress, parseMetricsAddress } from './metrics-address.ts';
import { serveMetrics, whyNotReady } from './metrics-server.ts';
import { renderMetrics } from './metrics.ts';
import type { DaemonStatus, VolumeStatus } from './status.ts';
import { MemoryVolume } from './testing/memory-source.ts';
import { VirtualClock } from '../../test/support/virtual-clock.ts';
import { parseExposition, valueOf } from './testing/prometheus.ts';

const device = new MeteredDevice(new MemoryVolume('v', 4096), systemClock);
const volume: VolumeStatus = {
  ...new MemoryVolume('v', 4096).statistics(),
  name: 'odd "name"\\\n',
  store: 's3://a',
  sizeBytes: 4096,
  readOnly: false,
  clients: 2,
  requests: device.statistics(),
};
const status: DaemonStatus = {
  version: '1.2.3',
  pid: 42,
  startedAt: '2026-01-01T00:00:00.000Z',
  uptimeMs: 1500,
  stopping: false,
  residentBytes: 7,
  loopDelay: { p50Ms: 1, p999Ms: 2, maxMs: 3, held: { p999Ms: 1, maxMs: 2 } },
  stateDirectory: '/state',
  listening: ['nbd://127.0.0.1:10809'],
  metrics: undefined,
  volumes: [volume, { ...volume, name: 'other' }],
  snapshots: [{ ...volume, name: 'other@monday', clients: 4 }],
  clients: [],
  stores: [
    {
      url: 's3://a',
      ...{ requests: {}, errors: 0, bytesSent: 0, bytesReceived: 0, inFlight: 3 },
      operations: {
        get: {
          requests: 5,
          errors: { 'not-found': 2 },
          sentBytes: 0,
          receivedBytes: 99,
          latency: new DurationHistogram().read(),
        },
      },
    },
  ],
};

describe('metrics', () => {
  it('are what a strict parser of the format takes, whatever a volume is called', () => {
    const families = parseExposition(renderMetrics(status));
    const labels = { volume: volume.name };
    expect(valueOf(families, 'elasticdrive_volume_dirty_bytes', labels)).toBe(8192);
    expect(valueOf(families, 'elasticdrive_volume_dirty_age_seconds', labels)).toBe(1.5);
    expect(valueOf(families, 'elasticdrive_build_info', { version: '1.2.3' })).toBe(1);
    expect(
      valueOf(families, 'elasticdrive_volume_cache_hits_total', { ...labels, tier: 'memory' }),
    ).toBe(3);
    expect(
      valueOf(families, 'elasticdrive_store_request_errors_total', { code: 'not-found' }),
    ).toBe(2);
    expect(valueOf(families, 'elasticdrive_store_requests_in_flight')).toBe(3);
    const snapshot = { volume: 'other@monday' };
    expect(valueOf(families, 'elasticdrive_snapshot_clients', snapshot)).toBe(4);
    expect(
      valueOf(families, 'elasticdrive_nbd_requests_total', { ...snapshot, operation: 'read' }),
    ).toBe(0);
    // What nobody writes is no volume that cannot be written.
    expect(() => valueOf(families, 'elasticdrive_volume_writable', snapshot)).toThrow('0 samples');
    for (const { name, help } of families.values()) {
      expect(name).toMatch(/^elasticdrive_[a-z0-9_]+$/);
      expect(help).toMatch(/\.$/);
    }
  });

  it('count durations in buckets that add up', () => {
    const histogram = new DurationHistogram([1, 10]);
    for (const durationMs of [0.5, 1, 2, 10, 11]) histogram.add(durationMs);
    histogram.addInstant();
    const to = new Exposition();
    to.durations('d_seconds', 'Durations.', [[{ a: 'b' }, histogram.read()]]);
    expect(to.text).toBe(`\
# HELP d_seconds Durations.
# TYPE d_seconds histogram
d_seconds_bucket{a="b",le="0.001"} 3
d_seconds_bucket{a="b",le="0.01"} 5
d_seconds_bucket{a="b",le="+Inf"} 6
d_seconds_sum{a="b"} 0.0245
d_seconds_count{a="b"} 6
`);
  });

  it.each([
    ['no family', 'a_total 1\n'],
    ['line feed', '# HELP a_total A.\n# TYPE a_total counter\na_total 1'],
    ['twice', '# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total 1\n'],
    ['not a sample', '# HELP a_total A.\n# TYPE a_total counter\na_total{b="c} 1\n'],
    ['end in _total', '# HELP a A.\n# TYPE a counter\na 1\n'],
    ['belong', '# HELP a A.\n# TYPE a gauge\nb 1\n'],
    [
      'contradicts',
      '# HELP a_seconds A.\n# TYPE a_seconds histogram\na_seconds_bucket{le="+Inf"} 2\na_seconds_sum 0\na_seconds_count 1\n',
    ],
  ])('are not what the parser refuses: %s', (reason, text) => {
    expect(() => parseExposition(text)).toThrow(reason);
  });
});

describe('a metered device', () => {
  it('counts what is answered at once, later, and not at all', async () => {
    const inner = new MemoryVolume('v', 8192);
    const metered = new MeteredDevice(inner, systemClock);
    await metered.write(0, new Uint8Array(4096).fill(7), { fua: false });
    const into = new Uint8Array(4096);
    await metered.read(0, into);
    expect(into[0]).toBe(7);
    await metered.read(0, into);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    Object.assign(inner, { flush: () => promise });
    const flushes = [metered.flush(), metered.flush()];
    expect(flushes[0]).toBe(promise);
    expect(metered.statistics().flush).toMatchObject({ requests: 2, errors: 0 });
    resolve();
    await promise;
    Object.assign(inner, {
      trim: () => {
        throw new StorageError('read-only', 'no');
      },
      prefetch: () => Promise.reject(new StorageError('local-io', 'no')),
    });
    reject();
    expect(() => metered.trim(0, 4096, { fua: false })).toThrow('no');
    await expect(metered.prefetch(0, 4096)).rejects.toThrow('no');
    const { read, write, flush, trim, prefetch } = metered.statistics();
    const ended = ({ durations }: { durations: { counts: readonly number[] } }): number =>
      durations.counts.reduce((sum, count) => sum + count, 0);
    expect({ ...read, durations: ended(read) }).toEqual({
      ...{ requests: 2, errors: 0, bytes: 8192, durations: 2 },
    });
    expect(write).toMatchObject({ requests: 1, bytes: 4096 });
    expect(ended(flush)).toBe(2);
    expect(trim).toMatchObject({ requests: 1, errors: 1 });
    expect(prefetch).toMatchObject({ requests: 1, errors: 1 });
  });
});

describe('many requests at a time', () => {
  it('are all counted, though not each is timed', async () => {
    const clock = new VirtualClock();
    const inner = new MemoryVolume('v', 8192);
    const metered = new MeteredDevice(inner, clock);
    const endings: (() => void)[] = [];
    Object.assign(inner, {
      flush: () => new Promise<void>((resolve) => endings.push(resolve)),
    });
    const flushes = Array.from({ length: 100 }, async () => metered.flush());
    await clock.advance(20);
    for (const end of endings) end();
    await Promise.all(flushes);
    const { requests, durations } = metered.statistics().flush;
    expect(requests).toBe(100);
    expect(durations.counts[durations.boundsMs.indexOf(25)]).toBe(100);
    expect(durations.totalMs).toBe(2000);
    Object.assign(inner, {
      flush: () => Promise.reject(new StorageError('local-io', 'no')),
    });
    const failing = Array.from({ length: 40 }, async () => metered.flush());
    await Promise.allSettled(failing);
    expect(metered.statistics().flush).toMatchObject({ requests: 140, errors: 40 });
  });
});

describe('the server of metrics', () => {
  it('says when clients cannot be served, and why', () => {
    expect(whyNotReady(status)).toBe(undefined);
    expect(whyNotReady({ ...status, stopping: true })).toBe('The daemon is stopping.');
    expect(whyNotReady({ ...status, listening: [] })).toBe('The daemon does not listen yet.');
    const lost = { ...volume, failure: 'Volume v was taken by other.' };
    expect(whyNotReady({ ...status, volumes: [volume, lost] })).toBe(lost.failure);
  });

  it('answers at three paths, and nothing else', async () => {
    let current = (): DaemonStatus => status;
    const server = await serveMetrics({ host: '127.0.0.1', port: 0 }, () => current());
    try {
      expect((await get(server.address.port, '/metrics')).body).toBe(renderMetrics(status));
      expect(await get(server.address.port, '/healthz')).toEqual({ code: 200, body: 'ok\n' });
      expect(await get(server.address.port, '/readyz')).toEqual({ code: 200, body: 'ok\n' });
      current = () => ({ ...status, stopping: true });
      expect(await get(server.address.port, '/readyz')).toEqual({
        code: 503,
        body: 'The daemon is stopping.\n',
      });
      expect((await get(server.address.port, '/')).code).toBe(404);
      expect((await get(server.address.port, '/metrics', 'POST')).code).toBe(405);
      current = () => {
        throw new Error('the status cannot be told');
      };
      expect((await get(server.address.port, '/metrics')).code).toBe(500);
      await expect(
        serveMetrics({ host: '127.0.0.1', port: server.address.port }, () => status),
      ).rejects.toThrow('another process listens there');
    } finally {
      await server.close();
    }
  });

  it.each([
    ['http://127.0.0.1:9810', { host: '127.0.0.1', port: 9810 }],
    ['http://[::1]:0/', { host: '::1', port: 0 }],
    ['http://localhost', undefined],
    ['http://localhost:70000', undefined],
    ['https://localhost:1', undefined],
    ['http://user@localhost:1', undefined],
    ['http://localhost:1/metrics', undefined],
  ])('is told where to listen: %s', (text, expected) => {
    const address = parseMetricsAddress(text);
    expect(address).toEqual(expected);
    if (address !== undefined) {
      expect(parseMetricsAddress(formatMetricsAddress(address))).toEqual(address);
    }
  });
});

function get(port: number, path: string, method = 'GET'): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asking = request({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (part: string) => (body += part));
      response.on('end', () => resolve({ code: response.statusCode ?? 0, body }));
    });
    asking.on('error', reject);
    asking.end();
  });
}
