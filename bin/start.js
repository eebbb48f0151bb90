import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';

// A checkout runs its source; what npm installs has only the compiled form of it.
enableCompileCache();
const source = new URL('../src/bin/main.ts', import.meta.url);
const [folder, extension] = existsSync(source) ? ['src', 'ts'] : ['dist', 'js'];
const load = (name) =>
  import(new URL(`../${folder}/bin/${name}.${extension}`, import.meta.url).href);

const { missingServerFlags, serverEnvironment } = await load('server-flags');
const flags = missingServerFlags(process.argv, process.execArgv, process.env);
if (flags.length > 0 && process.execve !== undefined) {
  const [node, ...rest] = process.argv;
  process.execve(node, [node, ...flags, ...process.execArgv, ...rest], {
    ...serverEnvironment,
    ...process.env,
  });
}
await load('main');
