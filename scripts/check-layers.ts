/**
 * The dependency check. It also requires that every source file was read: a parser that is missing
 * makes dependency-cruiser read nothing and find nothing wrong.
 */
import { existsSync, globSync } from 'node:fs';
import { cruise } from 'dependency-cruiser';
import extractDepcruiseOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';

const rooms = ['src', 'test', 'bench', 'scripts'].filter((room) => existsSync(room));
const options = await extractDepcruiseOptions('./.dependency-cruiser.mjs');
const { output } = await cruise(rooms, options);
if (typeof output === 'string')
  throw new Error('dependency-cruiser gave text where a value was due');

const read = new Set(output.modules.map((module) => module.source));
const unread = rooms.flatMap((room) => globSync(`${room}/**/*.ts`)).filter((f) => !read.has(f));
const dependencyCount = output.modules.reduce(
  (sum, { dependencies }) => sum + dependencies.length,
  0,
);
for (const { rule, from, to } of output.summary.violations) {
  console.error(`${rule.name}: ${from} → ${to}`);
}
for (const file of unread) console.error(`not read: ${file}`);
console.log(`layers: ${read.size} modules, ${dependencyCount} dependencies`);
const sound = read.size > 0 && dependencyCount > 0 && unread.length === 0;
if (!sound) console.error('layers: the check did not read the source it is to judge');
process.exitCode = sound && output.summary.error === 0 ? 0 : 1;
