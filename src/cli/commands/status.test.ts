import { expect, it } from 'vitest';
import type { DaemonStatus } from '../../host/status.ts';
import { systemClock } from '../../base/clock.ts';
import { MeteredDevice } from '../../host/metered-device.ts';
import { MemoryVolume } from '../../host/testing/memory-source.ts';
import { renderStatus } from './status.ts';

const volume = {
  ...new MemoryVolume('v', 4096).statistics(),
  name: 'v',
  store: 's3://a',
  sizeBytes: 2 ** 40,
  readOnly: false,
  clients: 2,
  requests: new MeteredDevice(new MemoryVolume('v', 4096), systemClock).statistics(),
};
const status: DaemonStatus = {
  version: '1.2.3',
  pid: 42,
  startedAt: '2026-01-01T00:00:00.000Z',
  uptimeMs: 90_000,
  stopping: true,
  residentBytes: 150 * 2 ** 20,
  loopDelay: { p50Ms: 0.1, p999Ms: 3.5, maxMs: 12, held: { p999Ms: 2, maxMs: 5 } },
  stateDirectory: '/state',
  metrics: undefined,
  listening: ['nbd://127.0.0.1:10809', 'nbd+unix:///s'],
  volumes: [volume, { ...volume, name: 'w', dirtyBytes: 0, failure: 'taken', cacheHits: 0 }],
  snapshots: [{ ...volume, name: 'v@monday', clients: 1, cacheHits: 1, cacheMisses: 1 }],
  clients: [
    { peer: '127.0.0.1:5', volume: 'v' },
    { peer: 'unix:/s', volume: undefined },
  ],
  stores: [
    {
      url: 's3://a',
      requests: { put: 12, get: 3, list: 0 },
      errors: 1,
      bytesSent: 8 * 2 ** 20,
      bytesReceived: 0,
      inFlight: 0,
      operations: {},
    },
  ],
};

it('lays a status out for people', () => {
  expect(renderStatus(status)).toBe(`\
elasticdrive 1.2.3, process 42, up 1.5m, stopping, 150MiB resident, loop late by 3.5 ms at most in 99.9%
state in /state
listening on nbd://127.0.0.1:10809 nbd+unix:///s

VOLUME  SIZE  CLIENTS  DIRTY   AGE  CACHE HITS  AMPLIFIED  STATE  STORE
v       1TiB        2   8KiB  1.5s       75.0%          -  ok     s3://a
w       1TiB        2     0B     -        0.0%          -  taken  s3://a

SNAPSHOT  SIZE  CLIENTS  CACHE HITS  STORE
v@monday  1TiB        1       50.0%  s3://a

STORE   SENT  RECEIVED  ERRORS  REQUESTS
s3://a  8MiB        0B       1  put 12, get 3

CLIENT       VOLUME
127.0.0.1:5  v
unix:/s      (choosing)
`);
});
