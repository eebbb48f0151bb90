/**
 * A real S3 server for tests: Ceph's RADOS gateway with one monitor and one OSD on a sparse file,
 * all on loopback, all in one temporary directory, with credentials that Ceph draws at random.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { run, Server, TemporaryDirectory } from './programs.ts';
import { missingPrograms } from './requirements.ts';

export interface Rgw extends AsyncDisposable {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** What the gateway itself has counted since its start. */
  traffic(): Promise<S3Traffic>;
  /** Stops the gateway's process as it is: connections stay open and nothing is answered. */
  pause(): void;
  resume(): void;
  /** Ends the gateway's process: connections are refused until it is started again. */
  stopGateway(): Promise<void>;
  startGateway(): Promise<void>;
  /** Stops all processes and removes their directory. */
  stop(): Promise<void>;
}

export interface S3Traffic {
  readonly requests: number;
  readonly puts: number;
  readonly putBytes: number;
  readonly gets: number;
  readonly getBytes: number;
}

/** What has to be installed, or `undefined` when all of it is. */
export function missingRgw(): string | undefined {
  return missingPrograms({
    radosgw: 'radosgw',
    'radosgw-admin': 'radosgw',
    'ceph-mon': 'ceph-mon',
    monmaptool: 'ceph-common',
    'ceph-osd': 'ceph-osd',
    ceph: 'ceph-common',
  });
}

const startTries = 3;

/** Starts a gateway; takes about six seconds. Free ports may be taken meanwhile: then once more. */
export async function startRgw(): Promise<Rgw> {
  for (let tries = 1; ; tries += 1) {
    const cluster = await Cluster.make();
    try {
      return await cluster.start();
    } catch (error) {
      await cluster.stop();
      if (tries === startTries) throw error;
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

class Cluster {
  readonly #directory: TemporaryDirectory;
  readonly #fsid = randomUUID();
  readonly #monitorPort: number;
  readonly #gatewayPort: number;
  readonly #environment: Record<string, string>;
  readonly #servers: Server[] = [];

  private constructor(directory: TemporaryDirectory, ports: readonly [number, number]) {
    this.#directory = directory;
    [this.#monitorPort, this.#gatewayPort] = ports;
    this.#environment = { CEPH_CONF: directory.join('ceph.conf') };
  }

  static async make(): Promise<Cluster> {
    const ports = [await freePort(), await freePort()] as const;
    return new Cluster(await TemporaryDirectory.make(), ports);
  }

  async start(): Promise<Rgw> {
    for (const name of ['mon', 'osd', 'run', 'rgw']) await mkdir(this.#directory.join(name));
    await writeFile(this.#directory.join('ceph.conf'), this.#configuration());
    await this.#startMonitor();
    await this.#startStorage();
    const credentials = await this.#makeUser();
    let gateway = await this.#startGateway();
    return {
      endpoint: this.#endpoint,
      ...credentials,
      traffic: () => this.#traffic(gateway.pid),
      pause: () => void process.kill(gateway.pid, 'SIGSTOP'),
      resume: () => void process.kill(gateway.pid, 'SIGCONT'),
      stopGateway: () => gateway[Symbol.asyncDispose](),
      startGateway: async () => {
        gateway = await this.#startGateway();
      },
      stop: () => this.stop(),
      [Symbol.asyncDispose]: () => this.stop(),
    };
  }

  async stop(): Promise<void> {
    // Nothing in it is worth an orderly end, and a paused process would not hear of one.
    for (const server of this.#servers.splice(0).reverse()) await server[Symbol.asyncDispose]();
    await this.#directory[Symbol.asyncDispose]();
  }

  get #endpoint(): string {
    return `http://127.0.0.1:${this.#gatewayPort}`;
  }

  async #startGateway(): Promise<Server> {
    const gateway = this.#serve('radosgw', ['-f', '-n', 'client.rgw']);
    await gateway.until(() => answers(this.#endpoint));
    return gateway;
  }

  #serve(program: string, args: readonly string[]): Server {
    const server = new Server(program, args, { environment: this.#environment });
    this.#servers.push(server);
    return server;
  }

  async #run(program: string, ...args: string[]): Promise<string> {
    return (await run(program, args, { environment: this.#environment })).stdout;
  }

  async #startMonitor(): Promise<void> {
    const map = this.#directory.join('monmap');
    const address = `[v2:127.0.0.1:${this.#monitorPort}]`;
    await this.#run('monmaptool', '--create', '--fsid', this.#fsid, '--addv', 'a', address, map);
    await this.#run('ceph-mon', '-i', 'a', '--mkfs', '--monmap', map, '--fsid', this.#fsid);
    const monitor = this.#serve('ceph-mon', ['-f', '-i', 'a']);
    // Without authentication a monitor of somebody else on this port would answer just as well.
    await monitor.until(async () => ((await this.#ceph('fsid')) === this.#fsid ? true : undefined));
  }

  async #startStorage(): Promise<void> {
    const uuid = randomUUID();
    await this.#run('ceph', 'osd', 'new', uuid);
    await this.#run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', uuid);
    const storage = this.#serve('ceph-osd', ['-f', '-i', '0']);
    await storage.until(async () => {
      return / 1 up/.test(await this.#ceph('osd', 'stat')) ? true : undefined;
    });
  }

  async #ceph(...args: string[]): Promise<string> {
    try {
      return (await this.#run('ceph', '--connect-timeout', '3', ...args)).trim();
    } catch {
      return '';
    }
  }

  async #traffic(gatewayPid: number): Promise<S3Traffic> {
    const socket = this.#directory.join('run', `client.rgw.${gatewayPid}.asok`);
    const dump = await this.#run('ceph', '--admin-daemon', socket, 'perf', 'dump', 'rgw');
    const { rgw } = JSON.parse(dump) as { rgw: Record<string, number> };
    const count = (name: string): number => rgw[name] ?? 0;
    return {
      requests: count('req'),
      puts: count('put'),
      putBytes: count('put_b'),
      gets: count('get'),
      getBytes: count('get_b'),
    };
  }

  async #makeUser(): Promise<{ accessKeyId: string; secretAccessKey: string }> {
    const created = await this.#run(
      ...(['radosgw-admin', '-n', 'client.rgw', 'user', 'create'] as const),
      ...['--uid=test', '--display-name=test'],
    );
    const { keys } = JSON.parse(created.slice(created.indexOf('{'))) as {
      keys: { access_key: string; secret_key: string }[];
    };
    const [key] = keys;
    if (key === undefined) throw new Error(`radosgw-admin made no keys: ${created}`);
    return { accessKeyId: key.access_key, secretAccessKey: key.secret_key };
  }

  #configuration(): string {
    const at = (name: string): string => this.#directory.join(name);
    return `[global]
fsid = ${this.#fsid}
mon host = [v2:127.0.0.1:${this.#monitorPort}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# No keys to manage; without them only the second messenger protocol works, and only unencrypted.
auth cluster required = none
auth service required = none
auth client required = none
ms bind msgr1 = false
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms mon client mode = crc
# A second for each proposal, as usual, would make every pool cost two.
paxos propose interval = 0.05
paxos min wait = 0.02
run dir = ${at('run')}
admin socket = ${at('run')}/$name.$pid.asok
pid file = ${at('run')}/$name.pid
log file = /dev/null
mon cluster log file = /dev/null
log to stderr = false
err to stderr = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 2
mon data avail crit = 1
osd class update on start = false
[mon]
mon data = ${at('mon')}
[osd]
osd data = ${at('osd')}
osd objectstore = bluestore
osd memory target = 1073741824
bluestore block create = true
bluestore block size = 21474836480
osd max scrubs = 0
[client.rgw]
rgw data = ${at('rgw')}
# Without tcp_nodelay every small answer waits 44 ms for an acknowledgement.
rgw frontends = beast endpoint=127.0.0.1:${this.#gatewayPort} tcp_nodelay=1
rgw thread pool size = 128
rgw enable usage log = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw dynamic resharding = false
rgw override bucket index max shards = 1
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw crypt require ssl = false
debug rgw = 0/0
`;
  }
}

async function answers(endpoint: string): Promise<true | undefined> {
  try {
    const response = await fetch(endpoint);
    await response.arrayBuffer();
    return response.ok ? true : undefined;
  } catch {
    return undefined;
  }
}
