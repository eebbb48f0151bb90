import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import type { KeyPair, Validity } from '../certificates.ts';
import type { Invocation, Noun } from '../verb.ts';

const authorityDays = 3650;

export const tlsNoun: Noun = {
  name: 'tls',
  summary: 'Make certificates for encrypted connections',
  verbs: [
    {
      name: 'create',
      summary:
        'Make a small private certificate authority, and certificates for servers and clients',
      examples: [
        ['create tls', 'an authority, and a certificate for this machine, in the directory tls'],
        ['create tls --server disks.example.org', 'for a server of that name'],
        ['create tls --client backup', 'signed by the authority that is there already'],
      ],
      arguments: [['<directory>', 'where certificates and keys are, or are to be']],
      options: [
        new Option(
          '--server <name...>',
          'names and addresses of the server; by default this machine',
        ),
        new Option('--client <name...>', 'a certificate for each of these clients'),
        new Option('--days <count>', 'how long they are valid').default('825'),
        new Option('--replace', 'make those that are there anew'),
      ],
      unconfigured: true,
      run: create,
    },
  ],
};

/** A file to be written; keys are for their owner alone. */
interface NewFile {
  readonly path: string;
  readonly text: string;
  readonly mode: 0o600 | 0o644;
}

async function create(invocation: Invocation): Promise<undefined> {
  const { arguments: given, options, output, workingDirectory } = invocation;
  const directory = resolve(workingDirectory, given[0] ?? '');
  const clients = textsOf(options['client']);
  for (const name of clients) requireClientName(name);
  const { authority, files } = await authorityIn(directory, invocation);
  const validity = validityOf(invocation);
  const { createClientPair, createServerPair } = await import('../certificates.ts');
  const wantsServer = options['server'] !== undefined || clients.length === 0;
  if (wantsServer) {
    const named = textsOf(options['server']);
    const names = named.length > 0 ? named : [hostname(), 'localhost', '127.0.0.1', '::1'];
    const pair = await createServerPair(authority, names, validity);
    files.push(...pairFiles(directory, 'server', pair));
  }
  for (const name of clients) {
    const place = join(directory, 'clients', name);
    files.push(...pairFiles(place, 'client', await createClientPair(authority, name, validity)));
    files.push({ path: join(place, 'ca-cert.pem'), text: authority.certificate, mode: 0o644 });
  }
  await writeAll(files, options['replace'] === true);
  const written = files.map(({ path }) => path);
  output.result(
    { directory, written },
    () => `${text(directory, written, wantsServer, clients)}\n`,
  );
}

function text(
  directory: string,
  written: readonly string[],
  hasServer: boolean,
  clients: readonly string[],
): string {
  const lines = written.map((path) => `wrote ${path}`);
  if (hasServer) {
    lines.push(
      '\nIn the configuration of the server:\n  [tls]',
      `  certificate = "${join(directory, 'server-cert.pem')}"`,
      `  key = "${join(directory, 'server-key.pem')}"`,
      `  client_ca = "${join(directory, 'ca-cert.pem')}"`,
    );
  }
  for (const name of clients) {
    const place = join(directory, 'clients', name);
    lines.push(
      `\nOn ${name}, with a copy of ${place} in DIR:`,
      "  nbdinfo 'nbds://SERVER/VOLUME?tls-certificates=DIR'",
    );
  }
  lines.push(`\nKeep ${join(directory, 'ca-key.pem')} where no server and no client has it.`);
  return lines.join('\n');
}

/** The authority of the directory; a new one, and the files that it takes, where there is none. */
async function authorityIn(
  directory: string,
  invocation: Invocation,
): Promise<{ readonly authority: KeyPair; readonly files: NewFile[] }> {
  const certificatePath = join(directory, 'ca-cert.pem');
  const keyPath = join(directory, 'ca-key.pem');
  const certificate = await readIfThere(certificatePath);
  const key = await readIfThere(keyPath);
  if (certificate !== undefined && key !== undefined) {
    return { authority: { certificate, key }, files: [] };
  }
  if (certificate !== undefined || key !== undefined) {
    const missing = certificate === undefined ? certificatePath : keyPath;
    throw new StorageError('not-found', `${missing} is missing: nothing can be signed without it`);
  }
  const { createAuthority } = await import('../certificates.ts');
  const validity = { ...validityOf(invocation), days: authorityDays };
  const authority = await createAuthority(`ElasticDrive authority of ${hostname()}`, validity);
  const files: NewFile[] = [
    { path: certificatePath, text: authority.certificate, mode: 0o644 },
    { path: keyPath, text: authority.key, mode: 0o600 },
  ];
  return { authority, files };
}

function validityOf({ options, drivers }: Invocation): Validity {
  const days = Number(options['days']);
  if (!Number.isInteger(days) || days < 1 || days > authorityDays) {
    throw new StorageError('usage', `--days expected a whole number from 1 to ${authorityDays}`);
  }
  return { fromMs: drivers.clock.wallMs(), days };
}

function pairFiles(directory: string, role: string, { certificate, key }: KeyPair): NewFile[] {
  return [
    { path: join(directory, `${role}-cert.pem`), text: certificate, mode: 0o644 },
    { path: join(directory, `${role}-key.pem`), text: key, mode: 0o600 },
  ];
}

/** Writes all of them or, when one is there already, none. */
async function writeAll(files: readonly NewFile[], replace: boolean): Promise<void> {
  for (const { path } of files) {
    if (replace || (await readIfThere(path)) === undefined) continue;
    throw new StorageError(
      'already-exists',
      `${path} is there already: add --replace for a new one`,
    );
  }
  for (const { path, text: content, mode } of files) {
    try {
      await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
      await writeFile(path, content, { mode });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new StorageError('local-io', `cannot write ${path} (${code})`, { cause });
    }
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new StorageError('local-io', `cannot read ${path} (${code})`, { cause });
  }
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** Rules of access name clients by a word. */
function requireClientName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/.test(name)) return;
  throw new StorageError(
    'usage',
    `"${name}" cannot name a client: use 1 to 64 letters, digits, ".", "_", "@" or "-", beginning with a letter or digit`,
  );
}
