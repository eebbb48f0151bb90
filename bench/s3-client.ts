/**
 * The speed of the S3 driver by itself: against a trivial server on loopback, which shows what the
 * client costs, and against Ceph's gateway. Run it with `node bench/s3-client.ts`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createS3Store, type S3Store } from '../src/store/s3-store.ts';
import { missingRgw, startRgw } from '../test/support/rgw.ts';

const mebibyte = 1 << 20;
const objectBytes = 8 * mebibyte;
const rangeBytes = 65_536;
const secondsEach = 2;
const rounds = 3;

interface Speed {
  readonly perSecond: number;
  readonly cpuMicroseconds: number;
}

/** Calls `action` over and over, `depth` at once, for a while. */
async function measure(depth: number, action: (turn: number) => Promise<unknown>): Promise<Speed> {
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  const endMs = startMs + secondsEach * 1000;
  let turns = 0;
  const worker = async (): Promise<void> => {
    while (performance.now() < endMs) {
      turns += 1;
      await action(turns);
    }
  };
  await Promise.all(Array.from({ length: depth }, worker));
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(startCpu);
  return { perSecond: turns / seconds, cpuMicroseconds: (user + system) / turns };
}

function median(speeds: readonly Speed[]): Speed {
  const sorted = [...speeds].sort((a, b) => a.perSecond - b.perSecond);
  return sorted[sorted.length >> 1] ?? { perSecond: 0, cpuMicroseconds: 0 };
}

async function report(server: string, store: S3Store): Promise<void> {
  const whole = Buffer.alloc(objectBytes, 7);
  const frames = Array.from({ length: objectBytes / rangeBytes }, (_, i) =>
    whole.subarray(i * rangeBytes, (i + 1) * rangeBytes),
  );
  await store.put('object', [whole]);
  const get = (turn: number): Promise<unknown> => {
    const offset = (turn * rangeBytes) % objectBytes;
    return store.get('object', { offset, lengthBytes: rangeBytes });
  };
  const cases: [string, number, number, (turn: number) => Promise<unknown>][] = [
    ['GET 64 KiB, depth 1', 1, rangeBytes, get],
    ['GET 64 KiB, depth 16', 16, rangeBytes, get],
    ['GET 8 MiB, depth 4', 4, objectBytes, () => store.get('object')],
    ['PUT 8 MiB, depth 4', 4, objectBytes, (turn) => store.put(`put-${turn % 8}`, [whole])],
    [
      'PUT 8 MiB of 128 parts, depth 4',
      4,
      objectBytes,
      (turn) => store.put(`put-${turn % 8}`, frames),
    ],
  ];
  for (const [name, depth, bytes, action] of cases) {
    const speeds: Speed[] = [];
    for (let round = 0; round < rounds; round += 1) speeds.push(await measure(depth, action));
    const { perSecond, cpuMicroseconds } = median(speeds);
    const row = {
      server,
      name,
      perSecond: Math.round(perSecond * 10) / 10,
      mebibytesPerSecond: Math.round((perSecond * bytes) / mebibyte),
      cpuMicroseconds: Math.round(cpuMicroseconds),
    };
    process.stdout.write(`${JSON.stringify(row)}\n`);
  }
  await store.close();
}

async function onTrivialServer(): Promise<void> {
  const path = fileURLToPath(new URL('./trivial-s3.ts', import.meta.url));
  const child = spawn(process.execPath, [path], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const [port] = (await once(createInterface(child.stdout), 'line')) as [string];
    const credentials = { accessKeyId: 'id', secretAccessKey: 'none' };
    const endpoint = `http://127.0.0.1:${port}`;
    await report('trivial', createS3Store({ bucket: 'bucket', endpoint, credentials }));
  } finally {
    child.kill();
  }
}

async function onGateway(): Promise<void> {
  const missing = missingRgw();
  if (missing !== undefined) {
    process.stdout.write(`${missing}\n`);
    return;
  }
  const rgw = await startRgw();
  try {
    const { endpoint, accessKeyId, secretAccessKey } = rgw;
    const credentials = { accessKeyId, secretAccessKey };
    const store = createS3Store({ bucket: 'bench', endpoint, credentials });
    await store.ensureBucket();
    await report('Ceph RGW', store);
  } finally {
    await rgw.stop();
  }
}

await onTrivialServer();
await onGateway();
