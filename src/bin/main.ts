import { readFileSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { systemRandom } from '../base/random.ts';
import { contents } from '../cli/contents.ts';
import { runProgram } from '../cli/program.ts';
import { systemDrivers } from './drivers.ts';

// A pipe that nobody reads any more is no reason to complain.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

// What nobody caught is our mistake. A process that has proved itself wrong stops before it writes
// anything more; what was flushed is in the journal.
process.on('uncaughtException', (error) => {
  process.stderr.write(
    `elasticdrive: stopped by a mistake of its own: ${error.stack ?? error.message}\n`,
  );
  process.exit(1);
});

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

const status = await runProgram(process.argv.slice(2), contents, {
  streams: {
    stdout: process.stdout,
    stderr: process.stderr,
    stderrIsTerminal: process.stderr.isTTY,
  },
  signals: process,
  environment: process.env,
  workingDirectory: process.cwd(),
  version,
  drivers: systemDrivers(systemClock, systemRandom, process.env),
});

// A pipe may still have to take what was printed.
for (const stream of [process.stdout, process.stderr]) {
  await new Promise((resolve) => {
    stream.write('', resolve);
  });
}
process.exit(status);
