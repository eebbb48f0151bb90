import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFileStore } from '../../src/store/file-store.ts';

const program = fileURLToPath(new URL('./increment-counter.ts', import.meta.url));

interface Counter {
  readonly count: number;
  readonly steps: Record<string, number>;
}

interface Report {
  readonly steps: number;
  readonly losses: number;
  readonly unknowns: number;
}

describe('registers of a directory that several processes share', () => {
  let directory: string;
  const children: ChildProcess[] = [];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elasticdrive-race-'));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await rm(directory, { recursive: true });
  });

  const start = (name: string): { child: ChildProcess; report: Promise<Report> } => {
    const child = spawn(process.execPath, [program, directory, name], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    children.push(child);
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const report = new Promise<Report>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status) => {
        if (status === 0) resolve(JSON.parse(output) as Report);
        else reject(new Error(`counting process ${name} ended with status ${String(status)}`));
      });
    });
    return { child, report };
  };
  const readCounter = async (): Promise<Counter> => {
    const present = await createFileStore({ directory }).load('shared/counter');
    if (present === undefined) return { count: 0, steps: {} };
    return JSON.parse(new TextDecoder().decode(present.value)) as Counter;
  };
  const until = async (condition: () => Promise<boolean>): Promise<void> => {
    while (!(await condition())) await sleep(2);
  };

  it('counts every step exactly once, also of one that sleeps while its number is trimmed', async () => {
    const names = ['a', 'b', 'c', 'd'];
    const counting = names.map(start);
    await until(async () => Object.keys((await readCounter()).steps).length === names.length);
    const sleeper = counting[0]?.child;
    for (let pause = 0; pause < 12; pause += 1) {
      sleeper?.kill('SIGSTOP');
      const { count } = await readCounter();
      // More than the versions that are kept: the sleeper's next number is used and gone by then.
      await until(async () => (await readCounter()).count > count + 20);
      sleeper?.kill('SIGCONT');
      await sleep(pause);
    }
    for (const { child } of counting) child.stdin?.end();
    const reports = await Promise.all(counting.map(({ report }) => report));

    const { count, steps } = await readCounter();
    expect(count).toBe(reports.reduce((sum, report) => sum + report.steps, 0));
    expect(steps).toEqual(Object.fromEntries(names.map((name, i) => [name, reports[i]?.steps])));
    expect(count).toBeGreaterThan(200);
    expect(reports.reduce((sum, report) => sum + report.losses, 0)).toBeGreaterThan(0);
    expect(await readdir(join(directory, '.tmp'))).toEqual([]);
    const [incarnation = ''] = await readdir(join(directory, 'shared/counter@'));
    const versions = await readdir(join(directory, 'shared/counter@', incarnation));
    expect(versions.length).toBeLessThanOrEqual(8 + names.length);
  });

  it('keeps the register whole when its writers are killed', async () => {
    for (let round = 0; round < 4; round += 1) {
      const { count } = await readCounter();
      const counting = [start(`x${round}`), start(`y${round}`)];
      for (const { report } of counting) report.catch(() => undefined);
      await until(async () => (await readCounter()).count > count + 5);
      for (const { child } of counting) child.kill('SIGKILL');
      await Promise.allSettled(counting.map(({ report }) => report));
      const { count: after, steps } = await readCounter();
      expect(Object.values(steps).reduce((sum, own) => sum + own, 0)).toBe(after);
    }
  });
});
