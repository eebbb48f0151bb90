/**
 * The units of `elasticdrive systemd install` under a real systemd, the first process of a guest:
 * started by a client that connects, killed, hung until the watchdog ends it, stopped; with an ext4
 * mounted all the time, of which nothing may fail.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { missingPrograms } from '../support/requirements.ts';
import { missingRgw } from '../support/rgw.ts';
import { sharedS3 } from '../support/shared-s3.ts';
import { bucketOn } from '../support/stores.ts';

const missing = missingGuest() ?? missingPrograms({ 'systemd-analyze': 'systemd' });
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.buildWithSystemd();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

const listen = 'listen = ["nbd+unix:///run/elasticdrive/nbd.sock"]';

const timeLimitMs = 900_000;
/** How often the daemon is killed; without it, what takes longest is left out. */
const kills = Number(process.env['SYSTEMD_KILLS'] ?? 0);
const killings = Array.from({ length: kills }, () => '-KILL');
/** One kill before those, and a stop after them. */
const ends = 2;

function onDirectory(): Promise<string> {
  return guest!.run('systemd', {
    CONFIGURATION: `${listen}\nstore = ["file:///srv/disks"]`,
    INSTALL: '--user disks',
    OWNER: 'disks',
    ENVIRONMENT: '',
    SIGNALS: ['-STOP', ...killings].join(' '),
  });
}

async function onS3(): Promise<string> {
  const { endpoint, accessKeyId, secretAccessKey } = await sharedS3();
  const { url } = await bucketOn({ endpoint, accessKeyId, secretAccessKey });
  // The host's own loopback has another address in the guest.
  const { port } = new URL(endpoint);
  return guest!.run('systemd', {
    CONFIGURATION: `${listen}\nstore = ["${url}"]\n[s3]\nendpoint = "http://10.0.2.2:${port}"`,
    INSTALL: '',
    OWNER: 'root',
    ENVIRONMENT: `AWS_ACCESS_KEY_ID=${accessKeyId}\nAWS_SECRET_ACCESS_KEY=${secretAccessKey}`,
    SIGNALS: killings.join(' '),
  });
}

describe('a service under systemd', () => {
  it('that owns a directory outlives a kill, a hang and a stop', { timeout: timeLimitMs }, async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    const said = await onDirectory();
    expect(said).toMatch(/^status: serving on nbd\+unix:/m);
    expect(said).toMatch(/elasticdrive\.service: Watchdog timeout/);
    expect(said.match(/the server is back/g)).toHaveLength(ends + 1 + kills);
    expect(said).toMatch(/^whole \d+$/m);
    expect(said).toMatch(/^result success, failed units: 0$/m);
    expect(said).toMatch(/^disks 700 \/var\/lib\/elasticdrive$/m);
    expect(said).toMatch(/^verified$/m);
    // Each stop and each sign of life was told.
    expect(said).not.toContain('could not be told');
  });

  if (kills > 0) {
    it('that has a user made up for it serves from S3', { timeout: timeLimitMs }, async () => {
      const lacking = missing ?? missingRgw();
      if (lacking !== undefined) throw new Error(lacking);
      const said = await onS3();
      expect(said.match(/the server is back/g)).toHaveLength(ends + kills);
      expect(said).toMatch(/^whole \d+$/m);
      expect(said).toMatch(/^result success, failed units: 0$/m);
      expect(said).toMatch(/^\w+ 700 \/var\/lib\/private\/elasticdrive$/m);
    });
  }
});
