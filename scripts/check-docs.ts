/**
 * Checks what the documents claim: that relative links lead somewhere, that each `elasticdrive`
 * command line and each npm script that they show exists, and that each test that a table names in
 * its last column (headed "Test" or "Tests") is there.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const documents = [...globSync('*.md'), ...globSync('docs/**/*.md')];
const problems: string[] = [];
let checked = 0;

function require(ok: boolean, document: string, problem: string): void {
  checked += 1;
  if (!ok) problems.push(`${document}: ${problem}`);
}

function checkLinks(document: string, text: string): void {
  const prose = text.replaceAll(/^```.*?^```/gms, '').replaceAll(/`[^`\n]*`/g, '');
  for (const [, target = ''] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z+]+:/.test(target)) continue;
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? document : join(dirname(document), path);
    require(existsSync(file), document, `the link ${target} leads nowhere`);
    if (anchor === undefined || !file.endsWith('.md') || !existsSync(file)) continue;
    require(anchorsOf(readFileSync(file, 'utf8')).has(
      anchor,
    ), document, `no heading for ${target}`);
  }
}

function anchorsOf(text: string): Set<string> {
  const headings = [...text.matchAll(/^#+ +(.+?) *$/gm)].map(([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

function checkCommands(document: string, text: string): void {
  for (const [, block = ''] of text.matchAll(/^```[a-z]*\n(.*?)^```/gms)) {
    for (const line of block.split('\n')) {
      const [, script] = /^\s*(?:\$ )?.*\bnpm (?:run )?([a-z]+)/.exec(line) ?? [];
      if (script !== undefined)
        require(isNpmCommand(script), document, `npm ${script}: no such script`);
      const [, words] = /^\s*(?:[$#] )?(?:npx )?elasticdrive((?: [a-z]+)*)(?= |$)/.exec(line) ?? [];
      if (words !== undefined) require(isCommand(words), document, `elasticdrive${words}: no help`);
    }
  }
}

function isNpmCommand(name: string): boolean {
  const manifest: unknown = JSON.parse(readFileSync('package.json', 'utf8'));
  const { scripts } = manifest as { scripts: Record<string, string> };
  return name in scripts || ['ci', 'install', 'pack', 'exec'].includes(name);
}

const commands = new Map<string, boolean>();

/** Whether the first words name a command that explains itself; a name or a size may follow them. */
function isCommand(words: string): boolean {
  const [noun, verb] = words.trim().split(' ');
  const twoWords = ['volume', 'store', 'config', 'snapshot', 'backup', 'array', 'key'];
  const command = [noun, twoWords.includes(noun ?? '') ? verb : undefined].filter((w) => !!w);
  const key = command.join(' ');
  const known = commands.get(key);
  if (known !== undefined) return known;
  const help = spawnSync(
    process.execPath,
    ['bin/elasticdrive.js', ...command.map(String), '--help'],
    { encoding: 'utf8', timeout: 20_000, env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1' } },
  );
  const ok = help.status === 0 && help.stdout.includes(key);
  commands.set(key, ok);
  return ok;
}

function checkTests(document: string, text: string): void {
  let lastColumnNamesTests = false;
  for (const line of text.split('\n')) {
    if (!line.startsWith('|')) {
      lastColumnNamesTests = false;
      continue;
    }
    const last =
      line
        .split(/(?<!\\)\|/)
        .at(-2)
        ?.trim() ?? '';
    if (/^tests?$/i.test(last)) lastColumnNamesTests = true;
    else if (lastColumnNamesTests) {
      for (const [, name = ''] of last.matchAll(/`([^`]+)`/g)) {
        require(testExists(name.replaceAll('\\|', '|')), document, `no test is called "${name}"`);
      }
    }
  }
}

const testFiles = globSync(['src/**/*.test.ts', 'test/**/*.ts']);
const testText = testFiles.map((file) => readFileSync(file, 'utf8')).join('\n');

/** A test is named by its title as the source has it, or by its file. */
function testExists(name: string): boolean {
  if (name.endsWith('.ts')) return testFiles.some((file) => file.endsWith(name));
  return ["'", '"', '`'].some((quote) => testText.includes(`${quote}${name}${quote}`));
}

for (const document of documents) {
  const text = readFileSync(document, 'utf8');
  checkLinks(document, text);
  checkCommands(document, text);
  checkTests(document, text);
}

for (const problem of problems) console.error(problem);
console.log(`docs: ${documents.length} documents, ${checked} claims, ${problems.length} wrong`);
if (checked === 0) console.error('docs: nothing was checked');
process.exitCode = problems.length === 0 && checked > 0 ? 0 : 1;
