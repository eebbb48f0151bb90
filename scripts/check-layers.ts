/**
 * The dependency check of what is shipped. It also requires that every source file was read: a
 * parser that is missing makes dependency-cruiser read nothing and find nothing wrong.
 */
import { globSync } from 'node:fs';
import { cruise } from 'dependency-cruiser';
import extractDepcruiseOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';

const shipped = globSync('src/**/*.ts').filter((file) => !/[.]test[.]ts$|\/testing\//.test(file));
const options = await extractDepcruiseOptions('./.dependency-cruiser.mjs');
const { output } = await cruise(shipped, options);
if (typeof output === 'string')
  throw new Error('dependency-cruiser gave text where a value was due');

const read = new Set(output.modules.map((module) => module.source));
const unread = shipped.filter((file) => !read.has(file));
const dependencyCount = output.modules.reduce(
  (sum, { dependencies }) => sum + dependencies.length,
  0,
);
for (const { rule, from, to } of output.summary.violations) {
  console.error(`${rule.name}: ${from} → ${to}`);
}
for (const file of unread) console.error(`not read: ${file}`);
console.log(`layers: ${shipped.length} modules, ${dependencyCount} dependencies`);
const sound = shipped.length > 0 && dependencyCount > shipped.length && unread.length === 0;
if (!sound) console.error('layers: the check did not read the source it is to judge');
process.exitCode = sound && output.summary.error === 0 ? 0 : 1;
