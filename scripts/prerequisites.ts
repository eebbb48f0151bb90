/**
 * The Debian packages that the tests use. On Debian as root the missing ones are installed;
 * elsewhere this says what is missing, and the tests that need it say so when they are skipped.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';

/** Package → what the tests use it for. */
export const testPackages: Readonly<Record<string, string>> = {
  fio: 'load with verification, through its NBD engine',
  nbdkit: 'a reference NBD server to compare with',
  'libnbd-bin': 'NBD clients: nbdinfo, nbdcopy, nbdfuse',
  'python3-libnbd': 'nbdsh, an NBD client that speaks each request by itself',
  'qemu-utils': "QEMU's NBD client: qemu-img, qemu-io, qemu-nbd",
  e2fsprogs: 'ext2 and ext4 on a volume',
  xfsprogs: 'xfs on a volume',
  'btrfs-progs': 'btrfs on a volume',
  fuse3: 'mounts a volume as a file on this host',
  radosgw: 'Ceph RGW, a real S3 server',
  'ceph-mon': "the S3 server's monitor",
  'ceph-osd': "the S3 server's storage",
  'ceph-common': 'sets the S3 server up',
  'qemu-system-x86': 'a guest with a stock Linux kernel',
  'busybox-static': "the guest's shell commands",
  cpio: "packs the guest's file system",
  kmod: "the guest's kernel modules",
  openssl: 'certificates for a server that the tests start',
  iproute2: "the guest's network",
  'nbd-client': "the Linux kernel's NBD client, in the guest",
  mdadm: 'a mirror of a local disk and a volume, in the guest',
  systemd: 'checks the units of a service, and speaks for one',
  tang: 'a server of keys that are to be had only where it is',
  clevis: 'the usual client of that, which must read what we wrap, and we what it wraps',
  jose: 'thumbprints of keys to compare ours with',
  postgresql: 'a database whose commits must survive, on a volume',
};

/** What only `npm run bench` needs. */
export const benchPackages: Readonly<Record<string, string>> = {
  s3backer: 'the peer that also keeps a disk in S3',
};

const policy = '/usr/sbin/policy-rc.d';

export async function installMissing(
  packages: Readonly<Record<string, string>> = testPackages,
  say: (line: string) => void = console.log,
): Promise<void> {
  const missing = missingPackages(Object.keys(packages));
  if (missing === undefined) {
    say('prerequisites: this is not Debian; a test that lacks a program is skipped');
    return;
  }
  if (missing.length === 0) return;
  for (const name of missing) say(`prerequisites: ${name}: ${packages[name] ?? ''}`);
  if (process.getuid?.() !== 0) {
    const command = `apt-get install --no-install-recommends ${missing.join(' ')}`;
    say(`prerequisites: not root; to run every test, as root: ${command}`);
    return;
  }
  await withServicesKeptDown(async () => {
    if (await install(missing)) return;
    say('prerequisites: trying again with fresh package lists');
    if ((await apt(['update'])) && (await install(missing))) return;
    throw new Error('prerequisites: apt-get could not install the packages');
  });
}

/** The packages among `names` that are not installed; `undefined` where there is no dpkg. */
function missingPackages(names: readonly string[]): string[] | undefined {
  if (!existsSync('/etc/debian_version')) return undefined;
  const format = '${db:Status-Status} ${Package}\n';
  const query = spawnSync('dpkg-query', ['-W', `-f=${format}`, ...names], { encoding: 'utf8' });
  if (query.error !== undefined) return undefined;
  const installed = new Set(query.stdout.split('\n'));
  return names.filter((name) => !installed.has(`installed ${name}`));
}

/**
 * Keeps maintainer scripts from starting daemons; a policy that is already there is left alone.
 * A signal meanwhile waits until the policy is gone again: half an installation helps nobody.
 */
async function withServicesKeptDown(action: () => Promise<void>): Promise<void> {
  if (existsSync(policy)) {
    await action();
    return;
  }
  const policyText =
    '#!/bin/sh\n# Put here by the tests of ElasticDrive while they install.\nexit 101\n';
  writeFileSync(policy, policyText, { mode: 0o755 });
  let signalled = false;
  const remember = () => {
    signalled = true;
  };
  process.on('SIGINT', remember).on('SIGTERM', remember);
  try {
    await action();
  } finally {
    if (existsSync(policy) && readFileSync(policy, 'utf8') === policyText) rmSync(policy);
    process.off('SIGINT', remember).off('SIGTERM', remember);
  }
  if (signalled) process.exit(130);
}

function install(packages: readonly string[]): Promise<boolean> {
  return apt(['install', '--yes', '--no-install-recommends', ...packages]);
}

async function apt(args: readonly string[]): Promise<boolean> {
  const options = ['-qq', '-o', 'Dpkg::Use-Pty=0', '-o', 'DPkg::Lock::Timeout=300'];
  const child = spawn('apt-get', [...options, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  const [output, errors, status] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number | null>((resolve, reject) => {
      child.on('error', reject).on('close', resolve);
    }),
  ]);
  if (status !== 0) console.log(`apt-get ${args[0] ?? ''}: ${output}${errors}`.trimEnd());
  return status === 0;
}
