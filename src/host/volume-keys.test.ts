import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import { Keyring } from '../crypto/keyring.ts';
import type { KeyEntry } from '../crypto/keyring-entry.ts';
import { newPassphraseKey } from '../crypto/passphrase-key.ts';
import { newRecoveryKey, parseRecoveryKey } from '../crypto/recovery-key.ts';
import type { VolumeKeys, WrappedOfVolume } from '../crypto/volume-keys.ts';
import { VirtualClock } from '../../test/support/virtual-clock.ts';
import { createLocalDisk } from '../store/local-disk.ts';
import { AuditLog } from './audit-log.ts';
import { hostVolumeKeys, type VolumeKeysOptions } from './volume-keys.ts';

const volumeId = '0123456789abcdef0123456789abcdef';
const context = { volumeId, generation: 1 };
const recovery = newRecoveryKey();
const sealed = newPassphraseKey('main', '2026-11-20T12:00:00.000Z', Buffer.from('right'));

const clocks = new Map<string, VirtualClock>();
function clockOf(name: string): VirtualClock {
  const clock = clocks.get(name) ?? new VirtualClock();
  clocks.set(name, clock);
  return clock;
}

let directory: string;
let logged: string[];
let asked: number;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-volume-keys-'));
  logged = [];
  asked = 0;
});
afterEach(() => rm(directory, { recursive: true }));

/** A host with a state directory of its own. */
function host(name: string, passphrase: string, more: Partial<VolumeKeysOptions> = {}): VolumeKeys {
  const asker = { uid: 7, pid: 42, command: 'serve' };
  return hostVolumeKeys({
    keyring: new Keyring(join(directory, name, 'keys.json')),
    ask: async () => {
      asked += 1;
      return { bytes: Buffer.from(passphrase), from: 'of the test' };
    },
    environment: {},
    signForAws: () => Promise.reject(new Error('nothing is signed here')),
    clock: clockOf(name),
    log: createLog((_, message) => logged.push(message)),
    disk: createLocalDisk(join(directory, name, 'state')),
    audit: new AuditLog(join(directory, name, 'state/audit.log'), asker, systemClock),
    ...more,
  });
}

async function giveKey(name: string, entry: KeyEntry): Promise<void> {
  const keyring = new Keyring(join(directory, name, 'keys.json'));
  await keyring.change(() => ({ keys: [entry], defaultKey: entry.name }));
}

async function audited(name: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(join(directory, name, 'state/audit.log'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('the keys of volumes', () => {
  it('are unwrapped on any host that has the key, in their order, with one passphrase', async () => {
    await giveKey('a', await sealed);
    await giveKey('b', { ...(await sealed), name: 'renamed' });
    const secrets = [1, 2, 3].map(() => randomBytes(32));
    const contexts = [
      context,
      { volumeId, generation: 2 },
      { volumeId: 'e'.repeat(32), generation: 1 },
    ];
    const all: WrappedOfVolume[] = [];
    for (const [at, each] of contexts.entries()) {
      const made = await host('a', 'right').wrapNew('data', secrets[at] as Buffer, each);
      all.push({ volumeId: each.volumeId, ...made });
    }
    const alike = { volumeId, generation: 4 };
    const like = await host('b', 'right').wrapNew('clone', randomBytes(32), alike, all[0]?.wrapped);
    expect(like.wrapped).toMatchObject({ keyName: 'renamed', keyId: all[0]?.wrapped.keyId });
    asked = 0;
    const unwrapped = await host('b', 'right').unwrapAll('data', all);
    expect(unwrapped.map((secret) => Buffer.from(secret))).toEqual(secrets);
    expect(asked).toBe(1);
    // And once for all that are opened one after the other; it is not kept for longer than that.
    const keys = host('b', 'right');
    asked = 0;
    for (const each of all) await keys.unwrapAll('data', [each]);
    expect(asked).toBe(1);
    await clockOf('b').advance(6_000);
    await keys.unwrapAll('data', all);
    expect(asked).toBe(2);
    expect(logged).toEqual([]);
  });

  it('are not unwrapped by a wrong passphrase, and the sentence says what is needed', async () => {
    await giveKey('a', await sealed);
    const made = await host('a', 'right').wrapNew('data', randomBytes(32), context, 'main');
    const wrong = host('a', 'wrong').unwrapAll('data', [{ volumeId, ...made }]);
    await expect(wrong).rejects.toMatchObject({
      code: 'wrong-key',
      message: expect.stringMatching(
        /^the volume "data" is encrypted with the key "main" \(passphrase\): the passphrase of the test does not open/,
      ) as string,
    });
    const elsewhere = host('b', 'right').unwrapAll('data', [{ volumeId, ...made }]);
    await expect(elsewhere).rejects.toThrow(
      /key "main" .* not in the keyring .*b\/keys.json: bring/,
    );
    await expect(host('b', 'right').wrapNew('x', randomBytes(32), context)).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  it('are unwrapped with the key from the paper where theirs is not to be had', async () => {
    await giveKey('a', { ...(await sealed), recovery: recovery.publicKey });
    const secret = randomBytes(32);
    const made = await host('a', 'right').wrapNew('data', secret, context);
    const recoverySecret = (): Promise<Uint8Array> =>
      Promise.resolve(parseRecoveryKey(recovery.text));
    const lost = host('b', 'none', { recoverySecret });
    const [unwrapped] = await lost.unwrapAll('data', [{ volumeId, ...made }]);
    expect(Buffer.from(unwrapped as Uint8Array)).toEqual(secret);
    expect(await audited('b')).toMatchObject([
      { provider: 'passphrase', key: 'main', result: expect.stringContaining('keyring') as string },
      { provider: 'recovery', key: 'main', result: 'ok' },
    ]);
    const other = (): Promise<Uint8Array> =>
      Promise.resolve(parseRecoveryKey(newRecoveryKey().text));
    const wrong = host('c', 'none', { recoverySecret: other });
    await expect(wrong.unwrapAll('data', [{ volumeId, ...made }])).rejects.toMatchObject({
      code: 'wrong-key',
    });
  });

  it('leave a line for each use, and are not used without', async () => {
    await giveKey('a', await sealed);
    const secret = randomBytes(32);
    const made = await host('a', 'right').wrapNew('data', secret, context);
    await host('a', 'right').unwrapAll('data', [{ volumeId, ...made }]);
    await host('a', 'wrong')
      .unwrapAll('data', [{ volumeId, ...made }])
      .catch(() => undefined);
    const common = { uid: 7, pid: 42, command: 'serve', volume: 'data', volumeId, generation: 1 };
    const key = { provider: 'passphrase', key: 'main', keyId: (await sealed).id, keyVersion: 1 };
    const time = expect.stringMatching(/^\d{4}-.*Z$/) as string;
    expect(await audited('a')).toEqual([
      { time, ...common, ...key, action: 'wrap', result: 'ok' },
      { time, ...common, ...key, action: 'unwrap', result: 'ok' },
      {
        time,
        ...common,
        ...key,
        action: 'unwrap',
        result: expect.stringContaining('not open') as string,
      },
    ]);
    const path = join(directory, 'a/state/audit.log');
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const text = await readFile(path, 'utf8');
    for (const form of ['hex', 'base64', 'base64url'] as const) {
      expect(text).not.toContain(secret.toString(form));
    }
    await rm(path);
    await mkdir(path);
    const mute = host('a', 'right').unwrapAll('data', [{ volumeId, ...made }]);
    await expect(mute).rejects.toThrow(/no key is used without it/);
  });

  it('are remembered: another data key in the place of one is refused', async () => {
    await giveKey('a', await sealed);
    const keys = host('a', 'right');
    const first = { volumeId, ...(await keys.wrapNew('data', randomBytes(32), context)) };
    const forged = { volumeId, ...(await keys.wrapNew('data', randomBytes(32), context)) };
    const next = { volumeId, generation: 2 };
    const second = { volumeId, ...(await keys.wrapNew('data', randomBytes(32), next)) };
    await keys.unwrapAll('data', [first]);
    for (const all of [[forged], [forged, second], [second]]) {
      await expect(keys.unwrapAll('data', all)).rejects.toThrow(/another data key than when/);
    }
    expect(logged).toEqual([]);
    await keys.unwrapAll('data', [first, second]);
    expect(logged).toEqual(['a volume has a data key that is new to this host']);
    await keys.unwrapAll('data', [second]);
    expect(logged).toHaveLength(1);
  });
});
