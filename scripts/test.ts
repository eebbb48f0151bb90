/** `npm test`: what the tests need of the machine first, then the tests. Arguments go to vitest. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { installMissing } from './prerequisites.ts';

await installMissing();
const child = spawn('vitest', ['run', ...process.argv.slice(2)], {
  stdio: ['ignore', 'inherit', 'inherit'],
  // Node would leave its cache of compiled code behind in the system's temporary directory.
  env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1' },
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
});
