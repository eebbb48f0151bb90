/** The ratios that ElasticDrive means to reach, and what they are measured against. */
import { rawClient, rows } from './object-store.ts';
import type { Goal } from './report.ts';

const read = '4K random read, depth';
const write = '4K random write, depth';

export const goals: readonly Goal[] = [
  {
    says: 'hot 4K reads ≥ 1.0 × nbdkit file',
    row: `${read} 32`,
    against: 'nbdkit file',
    atLeast: 1,
  },
  {
    says: 'hot 4K writes ≥ 0.9 × nbdkit file',
    row: `${write} 32`,
    against: 'nbdkit file',
    atLeast: 0.9,
  },
  { says: 'hot 4K reads ≥ 2 × qemu-nbd', row: `${read} 32`, against: 'qemu-nbd raw', atLeast: 2 },
  { says: 'hot 4K writes ≥ 2 × qemu-nbd', row: `${write} 32`, against: 'qemu-nbd raw', atLeast: 2 },
  {
    says: 'read latency at depth 1 ≤ 1.2 × nbdkit file',
    row: `${read} 1: latency`,
    against: 'nbdkit file',
    atMost: 1.2,
  },
  {
    says: 'write latency at depth 1 ≤ 1.2 × nbdkit file',
    row: `${write} 1: latency`,
    against: 'nbdkit file',
    atMost: 1.2,
  },
  {
    says: '4K write + flush, 16 at once ≥ 2 × nbdkit file',
    row: '4K write + flush, 16 at once',
    against: 'nbdkit file',
    atLeast: 2,
  },
  {
    says: '4K random writes until stored ≥ 50 × s3backer durable',
    row: rows.randomWrite,
    against: 's3backer durable',
    atLeast: 50,
  },
  {
    says: 'sequential write until stored ≥ 0.9 × raw PUTs',
    row: rows.sequentialWrite,
    against: rawClient,
    atLeast: 0.9,
  },
  {
    says: 'cold sequential read ≥ 0.9 × raw GETs',
    row: rows.sequentialRead,
    against: rawClient,
    atLeast: 0.9,
  },
  {
    says: 'PUTs for each GiB of random 4K writes ≤ 160',
    row: `${rows.randomWrite}: PUTs`,
    atMost: 160,
  },
];
