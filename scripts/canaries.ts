/**
 * Proves that each gate can fail: plants one mistake in a copy of the sources, in a temporary
 * directory, and requires that the gate refuses it and says why. A gate that accepts one is broken.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

interface Canary {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /** What the gate must say; that it fails for another reason proves nothing. */
  readonly says: RegExp;
}

const gate = (script: string) => ['node', `scripts/${script}.ts`];
const lint = ['oxlint', '--type-aware', '--deny-warnings'];

function lintCanary(rule: string, path: string, code: string): Canary {
  return { name: `lint ${rule}`, files: { [path]: code }, command: lint, says: new RegExp(rule) };
}

function layersCanary(rule: string, path: string, code: string): Canary {
  const files = { [path]: code };
  return { name: `layers ${rule}`, files, command: gate('check-layers'), says: new RegExp(rule) };
}

const kill = ['vitest', 'run', 'test/crash/kill.test.ts'];

/** The daemon is killed under load with a mistake in it that only a crash can show. */
function killCanary(
  name: string,
  path: string,
  right: string,
  wrong: string,
  durability: string,
): Canary {
  const text = readFileSync(path, 'utf8');
  if (!text.includes(right)) throw new Error(`${path} has no place for the canary "${name}"`);
  return {
    name: `kill ${name}`,
    files: { [path]: text.replace(right, wrong) },
    // Most are seen within a few kills; some seeds lose no disk for long.
    command: ['env', 'CRASH_KILLS=400', ...kill, '-t', `a directory, ${durability}`],
    says: /Violation: block \d+ holds write \d+; write \d+ is lost, which was promised/,
  };
}

const canaries: readonly Canary[] = [
  killCanary(
    'answers before the journal has it',
    'src/volume/journal.ts',
    'if (segment === undefined || this.pending.every((each) => each.isJournaled)) {\n      resolve();',
    'if (segment !== undefined || this.pending.length === 0) {\n      resolve();\n      this.start();',
    'local',
  ),
  killCanary(
    'flushes before the store has it',
    'src/volume/volume.ts',
    'const stored = uploader.whenCommitted(last).then(',
    'uploader.whenCommitted(last).catch(() => undefined);\n    const stored = Promise.resolve().then(',
    'store',
  ),
  lintCanary(
    'no-floating-promises',
    'src/host/canary.ts',
    'export function canary(): void {\n  Promise.resolve(1);\n}\n',
  ),
  lintCanary(
    'await-thenable',
    'src/host/canary.ts',
    'export async function canary(): Promise<void> {\n  await 5;\n}\n',
  ),
  lintCanary(
    'no-misused-promises',
    'src/host/canary.ts',
    'export const canary = (list: number[]): void => list.forEach(async () => Promise.resolve());\n',
  ),
  lintCanary(
    'switch-exhaustiveness-check',
    'src/host/canary.ts',
    "export function canary(kind: 'a' | 'b'): void {\n  switch (kind) {\n    case 'a':\n  }\n}\n",
  ),
  lintCanary('Time is passed in', 'src/volume/canary.ts', 'export const canary = Date.now();\n'),
  lintCanary('Time is passed in', 'src/nbd/canary.ts', 'setTimeout(() => undefined, 1);\n'),
  lintCanary('Math.random', 'src/array/canary.ts', 'export const canary = Math.random();\n'),
  {
    name: 'format',
    files: { 'src/host/canary.ts': 'export const canary = "double quotes"\n' },
    command: ['biome', 'check', 'src/host/canary.ts'],
    says: /canary\.ts format/,
  },
  {
    name: 'types',
    files: { 'src/host/canary.ts': "export const canary: number = 'text';\n" },
    command: ['tsc', '-p', 'tsconfig.json'],
    says: /canary\.ts.*TS2322/,
  },
  {
    name: 'unused',
    files: { 'src/host/canary.ts': 'export const canary = 1;\n' },
    command: ['knip'],
    says: /canary\.ts/,
  },
  layersCanary(
    'volume-looks-down-only',
    'src/volume/canary.ts',
    "import type { Canary } from '../cli/canary.ts';\nexport type Bird = Canary;\n",
  ),
  layersCanary(
    'nbd-looks-down-only',
    'src/nbd/canary.ts',
    "export * from '../host/canary.ts';\nexport const nbd = 1;\n",
  ),
  layersCanary('format-is-pure', 'src/format/canary.ts', "export * from 'node:fs';\n"),
  layersCanary('engine-asks-no-machine', 'src/volume/canary.ts', "export * from 'node:net';\n"),
  layersCanary('no-circles', 'src/base/canary.ts', "export * from './canary-twin.ts';\n"),
  layersCanary('shipped-dependencies', 'src/host/canary.ts', "export * from 'fast-check';\n"),
  {
    name: 'layers that reads nothing',
    files: {
      '.dependency-cruiser.mjs':
        "export default { forbidden: [], options: { exclude: '[.]ts$' } };\n",
    },
    command: gate('check-layers'),
    says: /did not read the source/,
  },
  {
    name: 'docs link',
    files: { 'docs/canary.md': '[nowhere](nowhere.md)\n' },
    command: gate('check-docs'),
    says: /the link nowhere\.md leads nowhere/,
  },
  {
    name: 'docs command',
    files: { 'docs/canary.md': '```\nelasticdrive fly\n```\n' },
    command: gate('check-docs'),
    says: /elasticdrive fly: no help/,
  },
  {
    name: 'docs test',
    files: {
      'docs/canary.md': '| claim | Test |\n| --- | --- |\n| flies | `canary that sings` |\n',
    },
    command: gate('check-docs'),
    says: /no test is called "canary that sings"/,
  },
  {
    name: 'coverage',
    files: {
      'src/host/canary.ts': `export function canary(n: number): number {\n${'  n += 1;\n'.repeat(20_000)}  return n;\n}\n`,
    },
    command: ['vitest', 'run', '--coverage', '--project', 'unit', 'src/base'],
    says: /Coverage for lines \(.*\) does not meet/,
  },
  {
    name: 'tests',
    files: {
      'src/base/canary.test.ts':
        "import { expect, it } from 'vitest';\nit('falls', () => expect(1).toBe(2));\n",
    },
    command: ['vitest', 'run', '--project', 'unit', 'src/base/canary.test.ts'],
    says: /1 failed/,
  },
];

/** Files that the canaries of one kind import. */
const company: Readonly<Record<string, string>> = {
  'src/cli/canary.ts': 'export type Canary = 1;\n',
  'src/host/canary.ts': 'export const canary = 1;\n',
  'src/base/canary-twin.ts': "export * from './canary.ts';\n",
};

function plant(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

function copyProject(root: string): void {
  const left = new Set(['node_modules', '.git', 'dist', 'coverage', 'elasticdrive-data']);
  cpSync('.', root, { recursive: true, filter: (path) => !left.has(path) });
  symlinkSync(resolve('node_modules'), join(root, 'node_modules'));
}

function run(canary: Canary): boolean {
  const root = mkdtempSync(join(tmpdir(), 'elasticdrive-canary-'));
  try {
    copyProject(root);
    if (canary.name.startsWith('layers')) plant(root, company);
    plant(root, canary.files);
    const [program = '', ...args] = canary.command;
    const { status, stdout, stderr } = spawnSync(program, args, {
      cwd: root,
      encoding: 'utf8',
      timeout: 180_000,
      env: { ...process.env, NO_COLOR: '1' },
    });
    const refused = status !== 0 && canary.says.test(stdout + stderr);
    console.log(`${refused ? 'refused ' : 'ACCEPTED'} ${canary.name}`);
    if (!refused) console.log(`status ${String(status)}\n${stdout}${stderr}`.slice(-2_000));
    return refused;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

const accepted = canaries.filter((canary) => !run(canary));
console.log(`canaries: ${canaries.length} planted, ${accepted.length} accepted`);
process.exitCode = accepted.length === 0 ? 0 : 1;
