import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { ResultsReporter } from './scripts/results-reporter.ts';

// Two kinds of tests: `unit` needs nothing but Node; `system` starts real servers and clients.
const sharedServers = './test/support/global-setup.ts';

export default defineConfig({
  test: {
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['src/**/*.test.ts', 'scripts/**/*.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'system',
          include: ['test/**/*.test.ts'],
          globalSetup: existsSync(sharedServers) ? [sharedServers] : [],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
    ],
    // Most of the time a test waits for a disk, a server or a guest: two files at once, even on two cores.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 30_000,
    passWithNoTests: false,
    allowOnly: false,
    reporters: ['default', new ResultsReporter()],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      // What only wires the parts together runs in the daemon's own process, where the system tests
      // see what it does but this cannot see which lines ran.
      exclude: ['**/*.test.ts', '**/testing/**', 'src/bin/**'],
      reporter: ['text-summary', 'json-summary'],
      reportOnFailure: true,
      thresholds: { lines: 90, statements: 89, functions: 89, branches: 80 },
    },
  },
});
