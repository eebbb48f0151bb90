import type { KeyKeeper } from './envelope-key.ts';
import type { KeyEntry } from './keyring-entry.ts';
import { runProgram } from './run-program.ts';

const timeLimitMs = 120_000;

/** The settings of a key that a program keeps: its command line, as words. */
export function commandSettings(command: readonly string[]): Record<string, string> {
  return { command: JSON.stringify(command) };
}

/**
 * Any program: `PROGRAM... wrap NAME` and `PROGRAM... unwrap NAME` take the secret, or what it was
 * wrapped as, on standard input and give the other on standard output. `rotate` gives nothing. Which
 * program that is stands in the keyring alone: what a manifest says is never run.
 */
export function commandKeeper(
  { name, settings }: KeyEntry,
  environment: Readonly<Record<string, string | undefined>>,
): KeyKeeper {
  const command = JSON.parse(settings['command'] ?? '[]') as string[];
  const run = (action: string, stdin: Uint8Array): Promise<Uint8Array> =>
    runProgram({
      name: `${command[0]} ${action} ${name}`,
      command: [...command, action, name],
      ...{ stdin, environment, timeLimitMs },
    });
  return {
    where: `kept by the program ${command[0]}`,
    async protect(secret) {
      return { wrapped: Buffer.from(await run('wrap', secret)).toString('base64url') };
    },
    recover: (fields) => run('unwrap', Buffer.from(fields['wrapped'] ?? '', 'base64url')),
    async rotate() {
      await run('rotate', new Uint8Array(0));
      return {};
    },
  };
}
