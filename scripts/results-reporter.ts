/**
 * A vitest reporter that keeps, for the gate, how many tests passed and why each skipped one was:
 * written as `Results` to the file that TEST_RESULTS_FILE names; without it, it only says at the
 * end what was skipped.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

interface SkippedTest {
  readonly name: string;
  readonly reason: string;
}

export interface Results {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly SkippedTest[];
}

export class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const state = (test: TestCase) => test.result().state;
    const brokenModules = modules.filter((module) => module.errors().length > 0).length;
    const results: Results = {
      passed: tests.filter((test) => state(test) === 'passed').length,
      failed:
        tests.filter((test) => state(test) === 'failed' || state(test) === 'pending').length +
        brokenModules +
        unhandledErrors.length,
      skipped: tests
        .filter((test) => state(test) === 'skipped')
        .map((test) => ({ name: test.fullName, reason: skipReason(test) })),
    };
    for (const { name, reason } of results.skipped) console.log(`skipped: ${name}: ${reason}`);
    const file = process.env['TEST_RESULTS_FILE'];
    if (file !== undefined) writeFileSync(file, JSON.stringify(results));
  }
}

function skipReason(test: TestCase): string {
  const result = test.result();
  return (result.state === 'skipped' ? result.note : undefined) ?? 'no reason given';
}
