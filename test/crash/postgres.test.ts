/**
 * PostgreSQL with its data on ext4 on a volume, while pgbench and clients that write down each commit
 * are at it: the daemon is killed, its disk is lost, the store is cut off. After each, PostgreSQL
 * recovers, pg_amcheck finds nothing, pgbench's sums agree, and what was committed is there.
 */
import { chmod } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { HostDisk, missingHostDisk } from '../support/host-disk.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';
import { missingRgw, startRgw } from '../support/rgw.ts';
import { requireSoundAt } from '../support/sound-stores.ts';
import { sharedS3 } from '../support/shared-s3.ts';
import { bucketOn } from '../support/stores.ts';
import { postgresKills } from './settings.ts';
import { missingPostgres, Postgres, type PostgresLoad } from './postgres.ts';

const missing =
  missingHostDisk() ??
  missingFileSystem('ext4') ??
  missingPrograms({ 'mkfs.ext4': 'e2fsprogs', e2fsck: 'e2fsprogs' }) ??
  missingPostgres();

const clients = 3;
const timeout = 120_000 + postgresKills * 30_000;

/** A volume with a database on it, and the machine that it is on. */
class Database implements AsyncDisposable {
  readonly #root: TemporaryDirectory;
  readonly #store: TestStore;
  #machine = 1;
  #mustTake = false;
  #daemon: Daemon | undefined;
  #disk: HostDisk | undefined;
  #postgres: Postgres | undefined;

  private constructor(root: TemporaryDirectory, store: TestStore) {
    this.#root = root;
    this.#store = store;
  }

  static async make(
    root: TemporaryDirectory,
    store: TestStore,
    durability: string,
  ): Promise<Database> {
    await createVolume(store, 'disk', '1GiB', '--durability', durability);
    await chmod(root.path, 0o755);
    const database = new Database(root, store);
    try {
      const disk = await database.#attach();
      await run('mkfs.ext4', ['-q', disk.device]);
      await database.#mount();
      await Postgres.initialize(database.#data);
      await database.#start();
      await database.postgres.prepare();
      return database;
    } catch (error) {
      await database[Symbol.asyncDispose]();
      throw error;
    }
  }

  get #data(): string {
    return this.#root.join('mount', 'data');
  }

  get postgres(): Postgres {
    if (this.#postgres === undefined) throw new Error('PostgreSQL does not run');
    return this.#postgres;
  }

  get #directory(): string {
    return this.#root.join(`machine-${this.#machine}`);
  }

  async #attach(): Promise<HostDisk> {
    this.#daemon = await Daemon.start({
      store: this.#store,
      directory: this.#directory,
      flags: ['--upload-interval', '500ms', ...(this.#mustTake ? ['--force'] : [])],
    });
    this.#mustTake = false;
    this.#disk = await HostDisk.attach(this.#daemon.uri('disk'), this.#root.join('fuse'));
    return this.#disk;
  }

  async #mount(): Promise<void> {
    await this.#disk?.mount(this.#root.join('mount'), 'discard');
  }

  async #start(): Promise<void> {
    this.#postgres = await Postgres.start(this.#data, this.#root.join('socket'));
  }

  load(): Promise<PostgresLoad> {
    return this.postgres.load(this.#root.join('load'), clients);
  }

  /** kill -9 of the daemon; what used the disk is cleared away. */
  async kill(load: PostgresLoad): Promise<void> {
    await this.#daemon?.crash();
    await this.#postgres?.end();
    await load.ended();
    await this.#disk?.detach();
  }

  /** The next start is on a machine with an empty disk, and takes the volume. */
  loseDisk(): void {
    this.#machine += 1;
    this.#mustTake = true;
  }

  /** Attaches, lets the file system and PostgreSQL recover, and looks at both; gives the ledger. */
  async recover(): Promise<Map<number, number>> {
    await this.#attach();
    await this.#mount();
    await this.#start();
    const { postgres } = this;
    expect(postgres.log).toMatch(/redo (done|is not required)/);
    await postgres.check();
    return postgres.ledger();
  }

  /** Ends in order; the file system is then checked in full. */
  async finish(): Promise<void> {
    await this.#postgres?.end();
    await this.#disk?.unmount();
    await run('e2fsck', ['-fn', this.#disk?.device ?? '']);
    await this.#disk?.detach();
    await this.#daemon?.stop();
    await requireSoundAt(this.#store);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#postgres?.[Symbol.asyncDispose]();
    await this.#disk?.[Symbol.asyncDispose]();
    await this.#daemon?.[Symbol.asyncDispose]();
  }
}

/** Every client finds at least what it was told is committed. */
function expectAll(ledger: ReadonlyMap<number, number>, load: PostgresLoad): void {
  load.acknowledged().forEach((number, client) => {
    expect(ledger.get(client) ?? 0, `client ${client}`).toBeGreaterThanOrEqual(number);
  });
}

describe('PostgreSQL on a volume', () => {
  it('keeps every commit when the daemon is killed, and is whole on another disk', {
    timeout,
  }, async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using database = await Database.make(root, directoryStore(root.join('store')), 'local');
    for (let kill = 0; kill < postgresKills; kill += 1) {
      await using load = await database.load();
      await load.progress(50);
      await database.kill(load);
      expectAll(await database.recover(), load);
    }
    await using load = await database.load();
    await load.progress(100);
    await database.kill(load);
    database.loseDisk();
    // Local durability: commits may be gone from the end, none from the middle.
    const ledger = await database.recover();
    for (const [client, number] of ledger) {
      expect(number).toBeLessThanOrEqual((load.acknowledged()[client] ?? 0) + 1);
    }
    await database.finish();
  });

  it('goes on while the store is away, and loses nothing of that', { timeout }, async ({
    skip,
  }) => {
    const lacking = missing ?? missingRgw();
    skip(lacking !== undefined, lacking);
    await using root = await TemporaryDirectory.make();
    await using rgw = await startRgw();
    await using database = await Database.make(root, await bucketOn(rgw), 'local');
    await using load = await database.load();
    await load.progress(50);
    rgw.pause();
    try {
      await load.progress(100);
      await database.kill(load);
    } finally {
      rgw.resume();
    }
    expectAll(await database.recover(), load);
    await database.finish();
  });

  it('keeps every commit on an empty disk, with store durability', { timeout }, async ({
    skip,
  }) => {
    const lacking = missing ?? missingRgw();
    skip(lacking !== undefined, lacking);
    await using root = await TemporaryDirectory.make();
    await using database = await Database.make(root, await bucketOn(await sharedS3()), 'store');
    for (let kill = 0; kill < postgresKills; kill += 1) {
      await using load = await database.load();
      await load.progress(20);
      await database.kill(load);
      database.loseDisk();
      expectAll(await database.recover(), load);
    }
    await database.finish();
  });
});
