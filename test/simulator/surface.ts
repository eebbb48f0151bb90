/** What of the product the simulator runs: loaded as often as there are variants of it. */
export { defaultVolumeSettings } from '../../src/volume/settings.ts';
export { checkVolume } from '../../src/volume/check.ts';
export { createMemoryStore } from '../../src/store/memory-store.ts';
export { createVolume } from '../../src/volume/catalog.ts';
export { inlineWorkers } from '../../src/volume/engine-workers.ts';
export { journalFileBytes } from '../../src/format/journal-file.ts';
export { openVolume } from '../../src/volume/open-volume.ts';
export { withConcurrencyLimit } from '../../src/store/with-concurrency-limit.ts';
export { withFaults } from '../../src/store/with-faults.ts';
export { BatchPool } from '../../src/nbd/reply-writer.ts';
export { ByteBudget } from '../../src/nbd/byte-budget.ts';
export { Connection } from '../../src/nbd/connection.ts';
export { nbdLimits } from '../../src/nbd/limits.ts';
export { RemoteLink } from '../../src/nbd/remote-link.ts';
export { withRetry } from '../../src/store/with-retry.ts';
export * as wire from '../../src/nbd/wire.ts';
export * as geometry from '../../src/format/geometry.ts';
