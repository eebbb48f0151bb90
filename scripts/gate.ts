/**
 * Runs every gate in turn, each counting as one, and the tests, each counting by itself. A skipped
 * test counts as failed unless its reason names a missing kernel feature: nothing else is allowed to
 * be missing where this runs.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import type { Results } from './results-reporter.ts';

const root = mkdtempSync(join(tmpdir(), 'elasticdrive-gate-'));
const path = [resolve('node_modules/.bin'), process.env['PATH'] ?? ''].join(delimiter);
const resultsFile = join(root, 'results.json');
const env = { ...process.env, PATH: path, TEST_RESULTS_FILE: resultsFile };

const tally = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];

function fail(what: string): void {
  tally.failed += 1;
  failures.push(what);
}

/** Runs one command as a gate of its own; what it says is shown as it says it. */
function gate(name: string, command: string, args: readonly string[]): void {
  console.log(`\n=== ${name}`);
  const started = performance.now();
  const { status, signal, error } = spawnSync(command, args, {
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  console.log(`=== ${name}: ${status === 0 ? 'ok' : 'FAILED'} in ${seconds} s`);
  if (status === 0) tally.passed += 1;
  else fail(`${name}: ${error?.message ?? signal ?? `status ${String(status)}`}`);
}

function countTests(): void {
  let results: Results;
  try {
    results = JSON.parse(readFileSync(resultsFile, 'utf8')) as Results;
  } catch {
    fail('tests: they left no results');
    return;
  }
  tally.passed += results.passed;
  tally.failed += results.failed;
  if (results.failed > 0) failures.push(`tests: ${results.failed} failed`);
  if (results.passed === 0) fail('tests: none passed');
  for (const { name, reason } of results.skipped) {
    if (reason.startsWith('missing kernel feature: ')) tally.skipped += 1;
    else fail(`skipped without a missing kernel feature: ${name}: ${reason}`);
  }
}

try {
  const scripts = ['lint:code', 'lint:format', 'typecheck', 'lint:unused', 'layers', 'canaries'];
  for (const script of [...scripts, 'docs']) gate(script, 'npm', ['run', '--silent', script]);
  gate('simulator', 'npm', ['run', '--silent', 'simulate', '--', '--suite', '--minutes', '1']);
  gate('tests and coverage', 'npm', ['test', '--silent', '--', '--coverage']);
  countTests();
  gate('quick start', 'node', ['scripts/smoke.ts', 'checkout']);
  gate('package', 'node', ['scripts/smoke.ts', 'package']);
} finally {
  rmSync(root, { recursive: true, force: true });
}

for (const failure of failures) console.log(`failed: ${failure}`);
console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
process.exitCode = tally.failed === 0 ? 0 : 1;
