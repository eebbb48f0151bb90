/** Debian's PostgreSQL with its data in a directory of our choice, and clients that write down what it said yes to. */
import { existsSync, readdirSync } from 'node:fs';
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { run, Server } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const versions = '/usr/lib/postgresql';
const debian = 'postgresql';

function program(name: string): string {
  const installed = existsSync(versions) ? readdirSync(versions).sort() : [];
  return `${versions}/${installed.at(-1) ?? ''}/bin/${name}`;
}

/** Why PostgreSQL cannot be run here, or `undefined`. */
export function missingPostgres(): string | undefined {
  return (
    missingPrograms({ setpriv: 'util-linux' }) ??
    (existsSync(program('pg_amcheck'))
      ? undefined
      : `missing program: pg_amcheck (on Debian: apt-get install --no-install-recommends ${debian})`)
  );
}

/** The server refuses to be root. */
const asPostgres = ['--reuid=postgres', '--regid=postgres', '--clear-groups'];

export class Postgres implements AsyncDisposable {
  readonly #server: Server;
  readonly #socketDirectory: string;

  private constructor(server: Server, socketDirectory: string) {
    this.#server = server;
    this.#socketDirectory = socketDirectory;
  }

  /** Makes a database cluster in `data`, which is made too. Its pages have checksums. */
  static async initialize(data: string): Promise<void> {
    const { stdout } = await run('id', ['-u', 'postgres']);
    await mkdir(data);
    await chown(data, Number(stdout), Number(stdout));
    await run(
      'setpriv',
      [
        ...[...asPostgres, program('initdb'), '--auth=trust', '--username=postgres'],
        ...['--data-checksums', '--wal-segsize=4', '--encoding=UTF8', '--no-locale', '--no-sync'],
        ...['-D', data],
      ],
      { directory: '/' },
    );
    await run('sync', ['--file-system', data]);
  }

  /** Starts, and so recovers if there is something to recover; back when it answers. */
  static async start(data: string, socketDirectory: string): Promise<Postgres> {
    await mkdir(socketDirectory, { recursive: true });
    await chmod(socketDirectory, 0o777);
    const settings = [
      ['listen_addresses', ''],
      ['unix_socket_directories', socketDirectory],
      ['shared_buffers', '16MB'],
      ['min_wal_size', '8MB'],
      ['max_wal_size', '16MB'],
    ];
    const server = new Server(
      'setpriv',
      [
        ...[...asPostgres, program('postgres'), '-D', data],
        ...settings.flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      { directory: '/' },
    );
    const postgres = new Postgres(server, socketDirectory);
    try {
      await server.until(() =>
        postgres.query('SELECT 1').then(
          () => true as const,
          () => undefined,
        ),
      );
      return postgres;
    } catch (error) {
      await postgres.end();
      throw error;
    }
  }

  get log(): string {
    return this.#server.log;
  }

  /** Runs SQL; the rows as lines, columns parted by `|`. */
  async query(sql: string): Promise<string> {
    return (await this.#client('psql', ['-Xqt', '-A', '-v', 'ON_ERROR_STOP=1', '-c', sql])).trim();
  }

  /** pgbench's tables, and a ledger for recorders. */
  async prepare(): Promise<void> {
    await this.#client('pgbench', ['-i', '-q', '-s', '1']);
    await this.query(
      'CREATE TABLE ledger (client int, number int, filling text, PRIMARY KEY (client, number))',
    );
  }

  /** Lets pgbench and `clients` recorders write until the server is gone or they are stopped. */
  async load(directory: string, clients: number): Promise<PostgresLoad> {
    await mkdir(directory, { recursive: true });
    const ledger = await this.ledger();
    const recorders: Recorder[] = [];
    for (let client = 0; client < clients; client += 1) {
      const file = `${directory}/client-${client}.sql`;
      const before = ledger.get(client) ?? 0;
      await writeFile(file, statements(client, before + 1));
      const server = this.#serve('psql', ['-Xq', '-v', 'ON_ERROR_STOP=1', '-f', file]);
      recorders.push({ server, before });
    }
    const bench = this.#serve('pgbench', ['-n', '-c', '2', '-T', '600']);
    return new PostgresLoad(bench, recorders);
  }

  /** Says what is wrong with tables and indexes; throws when anything is. */
  async check(): Promise<void> {
    await this.#client('pg_amcheck', ['--install-missing', '--heapallindexed', '--all']);
    const sums = await this.query(`SELECT
      (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),
      (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)`);
    if (new Set(sums.split('|')).size !== 1) throw new Error(`transactions were torn: ${sums}`);
  }

  /** For each client the last number in the ledger; throws when one before it is missing. */
  async ledger(): Promise<Map<number, number>> {
    const rows = await this.query(
      'SELECT client, count(*), max(number), count(DISTINCT filling) FROM ledger GROUP BY client',
    );
    const last = new Map<number, number>();
    for (const row of rows === '' ? [] : rows.split('\n')) {
      const [client = 0, count = 0, maximum = 0, fillings = 0] = row.split('|').map(Number);
      if (count !== maximum || fillings !== count) throw new Error(`the ledger has gaps: ${row}`);
      last.set(client, maximum);
    }
    return last;
  }

  /** Ends it, whatever state its disk is in. */
  async end(): Promise<void> {
    if (this.#server.running) await this.#server.stop('SIGQUIT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  async #client(name: string, args: readonly string[]): Promise<string> {
    return (await run(program(name), args, { environment: this.#environment() })).stdout;
  }

  #serve(name: string, args: readonly string[]): Server {
    return new Server(program(name), args, { environment: this.#environment() });
  }

  #environment(): Record<string, string> {
    return { PGHOST: this.#socketDirectory, PGUSER: 'postgres', PGDATABASE: 'postgres' };
  }
}

const statementCount = 20_000;
/** A commit waits for the disk or the store: a busy one has its time. */
const slowDiskMs = 150_000;

/** Each statement is a transaction; the line after it is printed when it was said yes to. */
function statements(client: number, first: number): string {
  const lines: string[] = [];
  for (let number = first; number < first + statementCount; number += 1) {
    lines.push(
      `INSERT INTO ledger VALUES (${client}, ${number}, repeat('${client}.${number}.', 30));\n\\echo ${number}\n`,
    );
  }
  return lines.join('');
}

interface Recorder {
  readonly server: Server;
  /** Its last number in the ledger when it began. */
  readonly before: number;
}

export class PostgresLoad implements AsyncDisposable {
  readonly #bench: Server;
  readonly #recorders: readonly Recorder[];

  constructor(bench: Server, recorders: readonly Recorder[]) {
    this.#bench = bench;
    this.#recorders = recorders;
  }

  /** For each client the last number that it was told is committed. */
  acknowledged(): number[] {
    return this.#recorders.map(({ server, before }) => {
      const lines = [...server.log.matchAll(/^(\d+)$/gm)];
      return Math.max(before, ...lines.map(([line]) => Number(line)));
    });
  }

  /** Resolves when each client has been told of `count` more commits than it has been now. */
  async progress(count: number): Promise<void> {
    const goal = this.acknowledged().map((number) => number + count);
    const reached = (): boolean =>
      this.acknowledged().every((number, client) => number >= (goal[client] ?? 0));
    await this.#recorders[0]?.server.until(() => (reached() ? true : undefined), slowDiskMs);
  }

  /** Resolves when all clients have found that their server is gone. */
  async ended(): Promise<void> {
    for (const { server } of this.#recorders) await server.ended();
    await this.#bench.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bench[Symbol.asyncDispose]();
    for (const { server } of this.#recorders) await server[Symbol.asyncDispose]();
  }
}
