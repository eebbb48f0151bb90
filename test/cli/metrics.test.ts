/** The metrics of a real daemon, read as Prometheus reads them and held against what was done. */
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { parseExposition, valueOf } from '../../src/host/testing/prometheus.ts';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({ nbdsh: 'python3-libnbd' });
const command = resolve('bin/elasticdrive.js');
const flags = ['--metrics-listen', 'http://127.0.0.1:0'];

async function ask(address: string, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${address}${path}`);
  return { status: response.status, body: await response.text() };
}

it('tells what clients, the journal and the store did', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '64MiB');
  await using daemon = await Daemon.start({ store, directory: root.join('host'), flags });
  const { metrics } = (await daemon.status()) as { metrics: string };
  const before = await fetch(`${metrics}/metrics`);
  expect(before.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  const idle = parseExposition(await before.text());
  expect(idle.get('elasticdrive_volume_dirty_bytes')?.samples).toEqual([]);
  await nbdsh(
    daemon.uri('data'),
    [
      'for at in range(10): h.pwrite(b"x" * 65536, at * 65536)',
      'h.flush()',
      'h.pread(4096, 0); h.pread(8192, 4096)',
      'h.trim(65536, 0)',
      'h.shutdown()',
    ].join('\n'),
  );
  // Written, trimmed and then uploaded: after that nothing is dirty.
  const families = await expect
    .poll(async () => parseExposition((await ask(metrics, '/metrics')).body), { timeout: 30_000 })
    .toSatisfy((now: ReturnType<typeof parseExposition>) => {
      return valueOf(now, 'elasticdrive_volume_dirty_bytes') === 0;
    })
    .then(async () => parseExposition((await ask(metrics, '/metrics')).body));
  const volume = { volume: 'data' };
  const of = (name: string, labels: Record<string, string> = {}): number =>
    valueOf(families, `elasticdrive_${name}`, { ...volume, ...labels });
  expect(of('nbd_requests_total', { operation: 'write' })).toBe(10);
  expect(of('nbd_request_bytes_total', { operation: 'write' })).toBe(655_360);
  expect(of('nbd_requests_total', { operation: 'read' })).toBe(2);
  expect(of('nbd_request_bytes_total', { operation: 'read' })).toBe(12_288);
  expect(of('nbd_request_bytes_total', { operation: 'trim' })).toBe(65_536);
  expect(of('nbd_request_errors_total', { operation: 'write' })).toBe(0);
  expect(of('nbd_request_duration_seconds_count', { operation: 'flush' })).toBe(1);
  expect(of('nbd_request_duration_seconds_sum', { operation: 'flush' })).toBeGreaterThan(0);
  expect(of('volume_journal_sync_duration_seconds_count')).toBeGreaterThan(0);
  expect(of('volume_written_bytes_total')).toBe(655_360);
  expect(of('volume_uploaded_segments_total')).toBeGreaterThan(0);
  expect(of('volume_journal_capacity_bytes')).toBeGreaterThan(1000 * 2 ** 20);
  expect(of('volume_epoch')).toBe(1);
  expect(of('volume_held')).toBe(1);
  expect(of('volume_writable')).toBe(1);
  expect(of('volume_lease_seconds')).toBe(120);
  expect(of('volume_lease_remaining_seconds')).toBeGreaterThan(60);
  expect(of('volume_attach_duration_seconds')).toBeGreaterThan(0);
  const puts = { operation: 'put', store: store.url };
  const put = valueOf(families, 'elasticdrive_store_requests_total', puts);
  expect(put).toBeGreaterThanOrEqual(of('volume_uploaded_segments_total'));
  const sent = valueOf(families, 'elasticdrive_store_sent_bytes_total', puts);
  expect(sent).toBeGreaterThanOrEqual(of('volume_uploaded_bytes_total'));
  expect(valueOf(families, 'elasticdrive_resident_memory_bytes')).toBeGreaterThan(2 ** 20);
  expect(await ask(metrics, '/healthz')).toEqual({ status: 200, body: 'ok\n' });
  expect(await ask(metrics, '/readyz')).toEqual({ status: 200, body: 'ok\n' });
});

it('says that it is not ready when another machine has taken a volume', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '64MiB');
  const host = { store, flags: [...flags, '--lease-time', '3s'] };
  await using first = await Daemon.start({ ...host, directory: root.join('first') });
  const { metrics } = (await first.status()) as { metrics: string };
  await nbdsh(first.uri('data'), 'h.pwrite(b"x" * 4096, 0)\nh.flush()\nh.shutdown()');
  expect((await ask(metrics, '/readyz')).status).toBe(200);
  const force = [...host.flags, '--force'];
  await using second = await Daemon.start({ store, flags: force, directory: root.join('second') });
  await nbdsh(second.uri('data'), 'h.pwrite(b"y" * 4096, 0)\nh.flush()\nh.shutdown()');
  await expect
    .poll(async () => (await ask(metrics, '/readyz')).status, { timeout: 30_000 })
    .toBe(503);
  expect((await ask(metrics, '/readyz')).body).toMatch(/^Volume data was taken by .*\.\n$/);
  const families = parseExposition((await ask(metrics, '/metrics')).body);
  expect(valueOf(families, 'elasticdrive_volume_held', { volume: 'data' })).toBe(0);
  await second.stop();
});

it('is open to this machine alone, unless more is said', async () => {
  await using root = await TemporaryDirectory.make();
  const line = ['serve', '--metrics-listen', 'http://0.0.0.0:0', '--store', root.path];
  const { stderr } = await run(process.execPath, [command, ...line], {
    environment: { HOME: root.path },
    directory: root.path,
    statuses: [2],
  });
  expect(stderr).toContain('which other machines reach: set metrics.remote if that is meant');
});
