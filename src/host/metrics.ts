import { writeAmplification } from '../volume/statistics.ts';
import { blockBytes } from '../format/geometry.ts';
import { deviceOperations, type RequestStatistics } from './metered-device.ts';
import { Exposition, type Labels } from './exposition.ts';
import type { DaemonStatus, SnapshotStatus, StoreStatus, VolumeStatus } from './status.ts';

/** The daemon's status as metrics. Names are in seconds and bytes, as Prometheus has them. */
export function renderMetrics(status: DaemonStatus): string {
  const to = new Exposition();
  ofProcess(to, status);
  ofVolumes(to, status.volumes);
  ofSnapshots(to, status.snapshots);
  ofRequests(to, [...status.volumes, ...status.snapshots]);
  ofStores(to, status.stores);
  return to.text;
}

function ofProcess(to: Exposition, status: DaemonStatus): void {
  const { version, uptimeMs, residentBytes, loopDelay, clients, stopping } = status;
  const one = (value: number): [Labels, number][] => [[{}, value]];
  to.gauge('elasticdrive_build_info', 'The version that runs; always 1.', [
    [{ version, node: process.version }, 1],
  ]);
  to.gauge('elasticdrive_uptime_seconds', 'Since the daemon was started.', one(uptimeMs / 1000));
  to.gauge(
    'elasticdrive_resident_memory_bytes',
    'Memory that the process occupies.',
    one(residentBytes),
  );
  to.gauge('elasticdrive_stopping', 'Whether the daemon is stopping.', one(Number(stopping)));
  to.gauge(
    'elasticdrive_event_loop_delay_p50_seconds',
    'How late the event loop runs what is due, in half of the cases.',
    one(loopDelay.p50Ms / 1000),
  );
  to.gauge(
    'elasticdrive_event_loop_delay_p999_seconds',
    'How late the event loop runs what is due at most, in 99.9% of the cases.',
    one(loopDelay.p999Ms / 1000),
  );
  to.gauge(
    'elasticdrive_event_loop_delay_max_seconds',
    'How late the event loop ever ran what was due.',
    one(loopDelay.maxMs / 1000),
  );
  to.gauge(
    'elasticdrive_event_loop_held_p999_seconds',
    'How long its own work held the event loop up at most, in 99.9% of the cases.',
    one(loopDelay.held.p999Ms / 1000),
  );
  to.gauge('elasticdrive_nbd_clients', 'Clients that are connected.', one(clients.length));
}

type OfVolume = (volume: VolumeStatus) => number;

/** Gauges of a volume: name, help, value. */
const volumeGauges: readonly (readonly [string, string, OfVolume])[] = [
  ['size_bytes', 'Size of the volume.', (v) => v.sizeBytes],
  ['clients', 'Clients that use the volume.', (v) => v.clients],
  ['dirty_bytes', 'Written and not yet in the store.', (v) => v.dirtyBytes],
  ['dirty_age_seconds', 'Age of the oldest of that; 0 for none.', (v) => v.dirtyAgeMs / 1000],
  ['journal_used_bytes', 'Journal in use.', (v) => v.journalFiles * v.journalFileBytes],
  [
    'journal_capacity_bytes',
    'Most that the journal may take; writes wait when it is used up.',
    (v) => v.journalFilesMaximum * v.journalFileBytes,
  ],
  ['uploads_waiting', 'Segments that wait for their upload.', (v) => v.uploadsWaiting],
  ['uploads_under_way', 'Segments whose upload is under way.', (v) => v.uploadsUnderWay],
  ['snapshots', 'Snapshots of the volume, as its writer last saw them.', (v) => v.snapshots],
  [
    'snapshots_pending',
    'Of them those that the store does not have all of yet.',
    (v) => v.pendingSnapshots,
  ],
  ['cache_memory_bytes', 'Memory that holds data.', (v) => v.cacheBytes],
  ['map_memory_bytes', 'Memory that holds the map.', (v) => v.mapBytes],
  ['held', 'Whether this daemon has the volume: 0 when another took it.', (v) => Number(v.held)],
  [
    'writable',
    'Whether the volume takes writes.',
    (v) => Number(v.failure === undefined && !v.readOnly),
  ],
  ['epoch', 'Number of the tenure.', (v) => v.epoch],
  [
    'lease_remaining_seconds',
    'For how long, as far as is known, nobody else can have the volume.',
    (v) => Math.max(0, v.leaseRemainingMs) / 1000,
  ],
  ['lease_seconds', 'How long a lease runs that is not renewed.', (v) => v.leaseMs / 1000],
  [
    'attach_duration_seconds',
    'How long it took to attach the volume, with what had to be recovered.',
    (v) => v.attachment.tookMs / 1000,
  ],
  [
    'attach_recovered_bytes',
    'Data that was found in the journal alone when it was attached.',
    (v) => v.attachment.recoveredBytes,
  ],
  [
    'attach_stored_tail_segments',
    'Segments after the checkpoint that were read when it was attached.',
    (v) => v.attachment.storedTailSegments,
  ],
];

const scrubGauges: typeof volumeGauges = [
  ['scrub_running', 'Whether the volume is being scrubbed.', (v) => Number(v.scrub.running)],
  [
    'scrub_last_end_timestamp_seconds',
    'When the last scrub ended, since 1970; 0 for never.',
    (v) => v.scrub.endedMs / 1000,
  ],
  ['scrub_damaged', 'What the last scrub found to be wrong.', (v) => v.scrub.damageCount],
  [
    'scrub_lost_bytes',
    'How much of the volume the last scrub found that it cannot be read.',
    (v) => v.scrub.lostBlocks * blockBytes,
  ],
];

const spaceGauges: typeof volumeGauges = [
  ['space_live_bytes', 'Of the data in the store, what something needs.', (v) => v.space.liveBytes],
  ['space_dead_bytes', 'What nothing needs of objects that are needed.', (v) => v.space.deadBytes],
  [
    'space_waiting_bytes',
    'Of objects that nothing needs and that are deleted after the grace period.',
    (v) => v.space.waitingBytes,
  ],
  ['space_running', 'Whether space is being given back.', (v) => Number(v.space.running)],
  [
    'space_last_end_timestamp_seconds',
    'When that was last done, since 1970; 0 for never.',
    (v) => v.space.endedMs / 1000,
  ],
  [
    'write_amplification',
    'Bytes put into the store for each byte written.',
    (v) => writeAmplification(v),
  ],
];

const volumeCounters: readonly (readonly [string, string, OfVolume])[] = [
  ['written_bytes_total', 'Appended to the log.', (v) => v.writtenBytes],
  ['uploaded_segments_total', 'Segments put into the store.', (v) => v.uploadedSegments],
  ['uploaded_bytes_total', 'Bytes of these as stored.', (v) => v.uploadedBytes],
  ['checkpoints_total', 'Checkpoints made.', (v) => v.checkpoints],
  ['store_reads_total', 'Ranges of objects fetched for reading.', (v) => v.storeReads],
  ['checkpoint_bytes_total', 'Put into the store by checkpoints.', (v) => v.checkpointBytes],
  ['compaction_read_bytes_total', 'Read to be moved together.', (v) => v.space.compactedBytes],
  ['compaction_put_bytes_total', 'Put into the store by compaction.', (v) => v.space.movedBytes],
  ['collected_bytes_total', 'Of objects that were deleted.', (v) => v.space.deletedBytes],
  ['collected_objects_total', 'Objects that were deleted.', (v) => v.space.deletedObjects],
  ['scrub_read_bytes_total', 'Read and verified by scrubs.', (v) => v.scrub.readBytes],
];

function ofVolumes(to: Exposition, volumes: readonly VolumeStatus[]): void {
  const each = (value: OfVolume): [Labels, number][] =>
    volumes.map((volume) => [{ volume: volume.name }, value(volume)]);
  for (const [name, help, value] of [...volumeGauges, ...scrubGauges, ...spaceGauges]) {
    to.gauge(`elasticdrive_volume_${name}`, help, each(value));
  }
  for (const [name, help, value] of volumeCounters) {
    to.counter(`elasticdrive_volume_${name}`, help, each(value));
  }
  const tiers = (of: (volume: VolumeStatus) => readonly [number, number]): [Labels, number][] =>
    volumes.flatMap((volume): [Labels, number][] => {
      const [memory, disk] = of(volume);
      return [
        [{ volume: volume.name, tier: 'memory' }, memory],
        [{ volume: volume.name, tier: 'disk' }, disk],
      ];
    });
  to.counter(
    'elasticdrive_volume_cache_hits_total',
    'Blocks found in memory, and frames found in the disk cache.',
    tiers((volume) => [volume.cacheHits, volume.diskCacheHits]),
  );
  to.counter(
    'elasticdrive_volume_cache_misses_total',
    'Blocks not found in memory, and frames not found in the disk cache.',
    tiers((volume) => [volume.cacheMisses, volume.diskCacheMisses]),
  );
  to.durations(
    'elasticdrive_volume_journal_sync_duration_seconds',
    'How long the local disk took to make the journal durable.',
    volumes.map((volume) => [{ volume: volume.name }, volume.syncTimes]),
  );
}

function ofSnapshots(to: Exposition, snapshots: readonly SnapshotStatus[]): void {
  const each = (value: (snapshot: SnapshotStatus) => number): [Labels, number][] =>
    snapshots.map((snapshot) => [{ volume: snapshot.name }, value(snapshot)]);
  to.gauge(
    'elasticdrive_snapshot_clients',
    'Clients that read the snapshot.',
    each(({ clients }) => clients),
  );
  to.counter(
    'elasticdrive_snapshot_cache_hits_total',
    'Blocks of the snapshot found in memory.',
    each(({ cacheHits }) => cacheHits),
  );
  to.counter(
    'elasticdrive_snapshot_cache_misses_total',
    'Blocks of the snapshot not found in memory.',
    each(({ cacheMisses }) => cacheMisses),
  );
}

function ofRequests(
  to: Exposition,
  volumes: readonly Pick<VolumeStatus, 'name' | 'requests'>[],
): void {
  const each = <T>(value: (request: RequestStatistics) => T): [Labels, T][] =>
    volumes.flatMap((volume) =>
      deviceOperations.map((operation): [Labels, T] => [
        { volume: volume.name, operation },
        value(volume.requests[operation]),
      ]),
    );
  to.counter(
    'elasticdrive_nbd_requests_total',
    'Requests of clients.',
    each(({ requests }) => requests),
  );
  to.counter(
    'elasticdrive_nbd_request_errors_total',
    'Requests of clients that failed.',
    each(({ errors }) => errors),
  );
  to.counter(
    'elasticdrive_nbd_request_bytes_total',
    'Length of the requests of clients.',
    each(({ bytes }) => bytes),
  );
  to.durations(
    'elasticdrive_nbd_request_duration_seconds',
    'How long the requests of clients took; at once is 0, and of many at a time some stand for all.',
    each(({ durations }) => durations),
  );
}

function ofStores(to: Exposition, stores: readonly StoreStatus[]): void {
  type Measured = StoreStatus['operations'][string];
  const each = <T>(value: (measured: Measured) => T): [Labels, T][] =>
    stores.flatMap(({ url, operations }) =>
      Object.entries(operations).map(([operation, measured]): [Labels, T] => [
        { store: url, operation },
        value(measured),
      ]),
    );
  to.gauge(
    'elasticdrive_store_requests_in_flight',
    'Requests to the store that are under way.',
    stores.map(({ url, inFlight }) => [{ store: url }, inFlight]),
  );
  to.counter(
    'elasticdrive_store_requests_total',
    'Requests to the store that have ended; a repetition is one of its own.',
    each(({ requests }) => requests),
  );
  to.counter(
    'elasticdrive_store_request_errors_total',
    'Requests to the store that failed, by what the failure was.',
    stores.flatMap(({ url, operations }) =>
      Object.entries(operations).flatMap(([operation, { errors }]) =>
        Object.entries(errors).map(([code, count]): [Labels, number] => [
          { store: url, operation, code },
          count,
        ]),
      ),
    ),
  );
  to.counter(
    'elasticdrive_store_sent_bytes_total',
    'Data sent to the store.',
    each(({ sentBytes }) => sentBytes),
  );
  to.counter(
    'elasticdrive_store_received_bytes_total',
    'Data received from the store.',
    each(({ receivedBytes }) => receivedBytes),
  );
  to.durations(
    'elasticdrive_store_request_duration_seconds',
    'How long the requests to the store took.',
    each(({ latency }) => latency),
  );
}
