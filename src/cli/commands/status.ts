import type { SpaceStatus } from '../../volume/space-keeper.ts';
import { writeAmplification } from '../../volume/statistics.ts';
import { formatSize, roundDuration, roundSize } from '../../base/quantity.ts';
import type { DaemonStatus } from '../../host/status.ts';
import { askDaemon, daemonKeys } from '../daemon.ts';
import { table } from '../output.ts';
import type { Verb } from '../verb.ts';

export const statusVerb: Verb = {
  name: 'status',
  summary: 'Say what the running daemon does',
  examples: [
    ['status', 'find the daemon that serves from here or by this configuration'],
    ['status --state-dir /var/lib/elasticdrive --json', 'ask a certain one, for a machine'],
  ],
  keys: daemonKeys,
  async run(invocation) {
    const status = (await askDaemon(invocation, '/status')) as DaemonStatus;
    invocation.output.result(status, () => renderStatus(status));
    return undefined;
  },
};

/** The status for people. */
export function renderStatus(status: DaemonStatus): string {
  const stopping = status.stopping ? ', stopping' : '';
  const head = `elasticdrive ${status.version}, process ${status.pid}, up ${roundDuration(status.uptimeMs)}${stopping}, ${roundSize(status.residentBytes)} resident, loop late by ${status.loopDelay.p999Ms} ms at most in 99.9%\nstate in ${status.stateDirectory}\nlistening on ${status.listening.join(' ')}\n`;
  const shown = [volumes(status), ...snapshots(status), stores(status), clients(status)];
  return [head, ...shown].join('\n');
}

function volumes(status: DaemonStatus): string {
  if (status.volumes.length === 0) return 'no volume is attached\n';
  return table(
    [
      { header: 'VOLUME' },
      { header: 'SIZE', align: 'right' },
      { header: 'CLIENTS', align: 'right' },
      { header: 'DIRTY', align: 'right' },
      { header: 'AGE', align: 'right' },
      { header: 'CACHE HITS', align: 'right' },
      { header: 'AMPLIFIED', align: 'right' },
      { header: 'STATE' },
      { header: 'STORE' },
    ],
    status.volumes.map((volume) => [
      volume.name,
      formatSize(volume.sizeBytes),
      String(volume.clients),
      roundSize(volume.dirtyBytes),
      volume.dirtyBytes === 0 ? '-' : roundDuration(volume.dirtyAgeMs),
      percentage(volume.cacheHits, volume.cacheMisses),
      amplified(volume),
      stateOf(volume),
      volume.store,
    ]),
  );
}

/** A table of the snapshots that are open, if there are any. */
function snapshots(status: DaemonStatus): string[] {
  if (status.snapshots.length === 0) return [];
  const columns = [
    { header: 'SNAPSHOT' },
    { header: 'SIZE', align: 'right' },
    { header: 'CLIENTS', align: 'right' },
    { header: 'CACHE HITS', align: 'right' },
    { header: 'STORE' },
  ] as const;
  const rows = status.snapshots.map(({ name, sizeBytes, clients: count, store, ...statistics }) => [
    ...[name, formatSize(sizeBytes), String(count)],
    ...[percentage(statistics.cacheHits, statistics.cacheMisses), store],
  ]);
  return [table(columns, rows)];
}

function stateOf({ failure, readOnly, scrub, space }: DaemonStatus['volumes'][number]): string {
  if (failure !== undefined) return failure;
  const state = readOnly ? 'read-only' : 'ok';
  const damage =
    scrub.damageCount === 0 ? '' : `, damaged: ${scrub.damageCount} found by the scrub`;
  const { running, segment, lastSegment } = scrub;
  const progress = running ? `, scrubbing: segment ${segment} of ${lastSegment}` : '';
  const compacting = space.running ? ', giving back space' : '';
  return `${state}${damage}${progress}${compacting}${flattened(space)}`;
}

function flattened({ flattening }: SpaceStatus): string {
  if (flattening === undefined) return '';
  const { copiedBlocks, blocks } = flattening;
  return `, flattening: ${blocks === 0 ? 0 : Math.floor((100 * copiedBlocks) / blocks)} % copied`;
}

/** Bytes put into the store for each byte written. */
function amplified(volume: DaemonStatus['volumes'][number]): string {
  return volume.writtenBytes === 0 ? '-' : `${writeAmplification(volume).toFixed(2)} x`;
}

function percentage(hits: number, misses: number): string {
  return hits + misses === 0 ? '-' : `${((100 * hits) / (hits + misses)).toFixed(1)}%`;
}

function stores(status: DaemonStatus): string {
  return table(
    [
      { header: 'STORE' },
      { header: 'SENT', align: 'right' },
      { header: 'RECEIVED', align: 'right' },
      { header: 'ERRORS', align: 'right' },
      { header: 'REQUESTS' },
    ],
    status.stores.map((store) => [
      store.url,
      roundSize(store.bytesSent),
      roundSize(store.bytesReceived),
      String(store.errors),
      Object.entries(store.requests)
        .filter(([, count]) => count > 0)
        .map(([name, count]) => `${name} ${count}`)
        .join(', ') || '-',
    ]),
  );
}

function clients(status: DaemonStatus): string {
  if (status.clients.length === 0) return 'no client is connected\n';
  return table(
    [{ header: 'CLIENT' }, { header: 'VOLUME' }],
    status.clients.map((client) => [client.peer, client.volume ?? '(choosing)']),
  );
}
