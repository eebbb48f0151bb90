/**
 * What a test needs of the machine. A test that cannot run says what is missing and how to get it;
 * only a feature that the running kernel lacks is a reason that the gate accepts.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';

/** The beginning of every reason that names a missing kernel feature; the gate looks for it. */
const kernelReason = 'missing kernel feature: ';

/** Why the kernel (or its sandbox) does not give `feature`, or `undefined` when it does. */
export function missingKernelFeature(feature: 'fuse' | 'loop'): string | undefined {
  if (process.platform !== 'linux')
    return `${kernelReason}Linux itself, this is ${process.platform}`;
  const device = feature === 'fuse' ? '/dev/fuse' : '/dev/loop-control';
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
  } catch {
    return `${kernelReason}${feature} (${device} cannot be opened)`;
  }
  return undefined;
}

/** Why a file system cannot be mounted here, or `undefined` when it can. */
export function missingFileSystem(name: string): string | undefined {
  const known = readFileSync('/proc/filesystems', 'utf8').split(/\s+/);
  if (known.includes(name)) return undefined;
  const loaded = spawnSync('modprobe', [name], { stdio: 'ignore' });
  return loaded.status === 0 ? undefined : `${kernelReason}${name} (not in /proc/filesystems)`;
}

/** Why the programs cannot be run, or `undefined` when all are installed. */
export function missingPrograms(packages: Readonly<Record<string, string>>): string | undefined {
  const missing = Object.entries(packages).filter(
    ([program]) => findProgram(program) === undefined,
  );
  if (missing.length === 0) return undefined;
  const names = missing.map(([program]) => program).join(', ');
  const debian = [...new Set(missing.map(([, name]) => name))].join(' ');
  return `missing program: ${names} (on Debian: apt-get install --no-install-recommends ${debian})`;
}

const programDirectories = [
  ...(process.env['PATH'] ?? '').split(':'),
  '/usr/local/sbin',
  '/usr/sbin',
  '/sbin',
];

/** The path of a program, also of those that only root has on its PATH. */
export function findProgram(name: string): string | undefined {
  return programDirectories.map((directory) => `${directory}/${name}`).find((p) => existsSync(p));
}

/** Why only root may do this, or `undefined` for root. */
export function missingRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'missing right: run the tests as root';
}
