import { spawn } from 'node:child_process';
import { StorageError } from '../base/errors.ts';
import { wipe } from './wiping.ts';

export interface ProgramRun {
  /** What errors call it. */
  readonly name: string;
  /** Program and arguments; no shell takes them apart. */
  readonly command: readonly string[];
  readonly stdin: Uint8Array;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly timeLimitMs: number;
}

const answerMaximumBytes = 64 * 1024;
const complaintMaximumBytes = 4096;

/**
 * What a program that handles secrets writes to standard output. When it fails, the error says what it
 * wrote to standard error, and nothing of its standard output, which may be a secret. Its children
 * end with it when it takes too long.
 */
export async function runProgram(run: ProgramRun): Promise<Uint8Array> {
  const { name, stdin, environment, timeLimitMs } = run;
  const [program = '', ...rest] = run.command;
  const child = spawn(program, rest, { stdio: 'pipe', env: environment, detached: true });
  let tookTooLong = false;
  const timer = setTimeout(() => {
    tookTooLong = true;
    endGroup(child.pid);
  }, timeLimitMs);
  const answer: Buffer[] = [];
  let answerBytes = 0;
  let complaint = '';
  child.stdout.on('data', (part: Buffer) => {
    answer.push(part);
    answerBytes += part.length;
    if (answerBytes > answerMaximumBytes) endGroup(child.pid);
  });
  child.stderr.on('data', (part: Buffer) => {
    complaint = `${complaint}${part.toString()}`.slice(-complaintMaximumBytes);
  });
  // A program that reads nothing is free to.
  child.stdin.on('error', () => undefined).end(stdin);
  try {
    const { code, signal } = await ended(child);
    if (answerBytes > answerMaximumBytes) throw failed(name, 'it wrote too much', complaint);
    if (tookTooLong) throw failed(name, `it took longer than ${timeLimitMs / 1000} s`, complaint);
    if (signal !== null) throw failed(name, `it was ended by ${signal}`, complaint);
    if (code !== 0) throw failed(name, `it ended with status ${code}`, complaint);
    return Buffer.concat(answer);
  } finally {
    clearTimeout(timer);
    wipe(...answer);
  }

  function ended(
    of: typeof child,
  ): Promise<{ readonly code: number | null; readonly signal: string | null }> {
    return new Promise((resolve, reject) => {
      of.on('error', (cause) => {
        const { code } = cause as NodeJS.ErrnoException;
        reject(new StorageError('wrong-key', `cannot run ${name} (${code})`, { cause }));
      });
      of.on('close', (code, signal) => resolve({ code, signal }));
    });
  }
}

function failed(name: string, what: string, complaint: string): StorageError {
  const said = complaint.trim().replaceAll(/\s+/g, ' ');
  return new StorageError('wrong-key', `${name}: ${what}${said === '' ? '' : ` (${said})`}`);
}

/** The program and what it started. */
function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It is gone already.
  }
}
