/**
 * What encryption costs: an encrypted volume beside one in the clear, in turns, hot and until all is in the
 * store. `npm run bench -- --only=encryption` prints it.
 */
import { writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { run, type TemporaryDirectory } from '../test/support/programs.ts';
import { FilledDaemon, type FilledSettings } from './filled-daemon.ts';
import { median } from './measure.ts';
import type { Limit } from './report.ts';

/** Encrypted it is at least 0.85 of what it is in the clear. */
const slowdownAtMost = 100 / 0.85;

export interface EncryptionSettings extends FilledSettings {
  readonly rounds: number;
}

export async function measureEncryption(
  root: TemporaryDirectory,
  settings: EncryptionSettings,
  say: (line: string) => void,
): Promise<Limit[]> {
  const flags = await madeKey(root);
  await using clear = await FilledDaemon.start(root, 'clear', settings);
  const make = ['--encrypt', ...flags, '--state-dir', root.join('encrypted-maker')];
  await using sealed = await FilledDaemon.start(root, 'encrypted', settings, { flags, make });
  const limits: Limit[] = [];
  const compare = async (
    what: string,
    speedOf: (daemon: FilledDaemon) => Promise<number>,
  ): Promise<void> => {
    say(`encryption: ${what}`);
    const ratios: number[] = [];
    for (let round = 0; round < settings.rounds; round += 1)
      ratios.push((100 * (await speedOf(clear))) / (await speedOf(sealed)));
    const says = `${what}, in the clear of encrypted`;
    limits.push({ says, value: median(ratios), unit: '%', atMost: slowdownAtMost });
  };
  for (const kind of ['randread', 'randwrite'] as const)
    await compare(`4K ${kind}`, async (daemon) => (await daemon.load(kind)).operationsPerSecond);
  await compare('sequential write until stored', (daemon) => daemon.upload());
  return limits;
}

/** The flags by which commands find a key that was made for this. */
async function madeKey(root: TemporaryDirectory): Promise<string[]> {
  const passphrase = root.join('passphrase');
  await writeFile(passphrase, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600 });
  const flags = ['--keyring', root.join('keys.json'), '--password-file', passphrase];
  const command = [resolve('bin/elasticdrive.js'), 'key', 'create', 'bench', ...flags];
  await run(process.execPath, [...command, '--state-dir', root.join('encrypted-maker')]);
  return flags;
}
