/**
 * What clients notice of snapshots that are made again and again under load and kept: random writes, and a
 * snapshot in the middle of each turn, beside a daemon that makes none. `npm run bench -- --only=snapshots`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TemporaryDirectory } from '../test/support/programs.ts';
import { FilledDaemon, type FilledSettings } from './filled-daemon.ts';
import { median } from './measure.ts';
import type { Limit } from './report.ts';

/** With snapshots it is at least 0.95 of what it is without. */
const slowdownAtMost = 100 / 0.95;

export interface SnapshotLoadSettings extends FilledSettings {
  /** Snapshots that are made, and turns without. */
  readonly rounds: number;
}

export async function measureSnapshotLoad(
  root: TemporaryDirectory,
  settings: SnapshotLoadSettings,
  say: (line: string) => void,
): Promise<Limit[]> {
  const { rounds, secondsEach } = settings;
  say(`snapshots: ${rounds}, one in every ${secondsEach} s of random writes, and as long without`);
  await using plain = await FilledDaemon.start(root, 'plain', settings);
  await using often = await FilledDaemon.start(root, 'often', settings);
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const without = await plain.load('randwrite');
    const making = sleep((secondsEach * 1000) / 2).then(() => snapshot(often, round));
    const withIt = await often.load('randwrite');
    await making;
    ratios.push(without.operationsPerSecond / withIt.operationsPerSecond);
  }
  const says = `4K randwrite, without snapshots of with one every ${secondsEach} s`;
  return [{ says, value: 100 * median(ratios), unit: '%', atMost: slowdownAtMost }];
}

function snapshot(often: FilledDaemon, round: number): Promise<void> {
  return often.ask('snapshot', {
    wish: JSON.stringify({ name: `s${round}`, description: '', tags: {} }),
    wait: 'false',
  });
}
