/**
 * Clients that were told to wait for their server, writing while the daemon is killed and restarted:
 * no request fails, and what they wrote is there.
 */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { Server, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({
  nbdkit: 'nbdkit',
  nbdcopy: 'libnbd-bin',
  'qemu-io': 'qemu-utils',
});
const python = '/usr/bin/python3';
const mebibyte = 2 ** 20;

interface Place {
  readonly daemon: Daemon;
  readonly root: TemporaryDirectory;
  /** Made by the test when the client may end. */
  readonly stopFile: string;
}

/** Writes numbered blocks through `h` until the stop file is there, then looks at all of them. */
const numberedBlocks = (stopFile: string): string => `
import os, sys, time
number = 0
blocks = 4096
def block(n):
    return n.to_bytes(8, "big") * 512
while not os.path.exists(${JSON.stringify(stopFile)}) or number < blocks:
    write(block(number), number % blocks * 4096)
    number += 1
    if number % 50 == 0:
        flush()
flush()
lost = []
for n in range(number - blocks, number):
    found = bytes(read(4096, n % blocks * 4096))
    if found != block(n):
        lost.append((n, int.from_bytes(found[:8], "big")))
if lost:
    sys.exit(f"of {number} these hold another: {lost[:100]}")
print("whole", number)
`;

/** libnbd gives an error when its server goes: a program opens a new handle and asks again. */
const libnbd = (uri: string, stopFile: string): string => `
import nbd
h = None
def again(action):
    global h
    for attempt in range(600):
        try:
            if h is None:
                fresh = nbd.NBD()
                fresh.connect_uri(${JSON.stringify(uri)})
                h = fresh
            return action(h)
        except nbd.Error:
            h = None
            time.sleep(0.1)
    sys.exit("the server did not come back")
write = lambda data, at: again(lambda h: h.pwrite(data, at))
read = lambda count, at: again(lambda h: h.pread(count, at))
flush = lambda: again(lambda h: h.flush())
${numberedBlocks(stopFile)}`;

const plainLibnbd = (uri: string, stopFile: string): string => `
import nbd
h = nbd.NBD()
h.connect_uri(${JSON.stringify(uri)})
write, read, flush = h.pwrite, h.pread, h.flush
${numberedBlocks(stopFile)}`;

function qemuIo({ daemon }: Place): Server {
  const options = `driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=${daemon.socketPath},file.export=disk,file.reconnect-delay=60`;
  const commands: string[] = [];
  const count = 2_000;
  for (let at = 0; at < count; at += 1) {
    commands.push(`write -q -P ${at % 256} ${(at % 512) * 16}k 16k`, 'sleep 3');
    if (at % 50 === 0) commands.push('flush');
  }
  for (let at = count - 512; at < count; at += 1) {
    commands.push(`read -q -P ${at % 256} ${(at % 512) * 16}k 16k`);
  }
  return new Server('qemu-io', [
    ...['--image-opts', options, '-t', 'writeback'],
    ...commands.flatMap((command) => ['-c', command]),
  ]);
}

/** nbdkit in between, for clients that cannot wait by themselves. */
async function nbdkitRetry({ daemon, root, stopFile }: Place): Promise<Server> {
  const script = root.join('client.py');
  const socket = root.join('kit.sock');
  await writeFile(script, plainLibnbd(`nbd+unix:///?socket=${socket}`, stopFile));
  return new Server('nbdkit', [
    ...['-f', '-U', socket, '--filter=retry', 'nbd', `uri=${daemon.uri('disk')}`, 'retry=60'],
    ...['retries=60', 'retry-delay=1', 'retry-exponential=no'],
    ...['--run', `${python} ${script}`],
  ]);
}

function libnbdScript({ daemon, stopFile }: Place): Server {
  return new Server(python, ['-c', libnbd(daemon.uri('disk'), stopFile)]);
}

/** A client that knows nothing of this, through our own proxy. */
async function proxied({ daemon, root, stopFile }: Place): Promise<Server> {
  const script = root.join('client.sh');
  const at = `nbd+unix://${root.join('proxy.sock')}`;
  const uri = `nbd+unix:///disk?socket=${root.join('proxy.sock')}`;
  await writeFile(root.join('client.py'), plainLibnbd(uri, stopFile));
  await writeFile(
    script,
    `set -eu
     ${process.execPath} ${resolve('bin/elasticdrive.js')} proxy '${daemon.uri('disk')}' --at '${at}' &
     trap 'kill $!; wait $!' EXIT
     until [ -S ${root.join('proxy.sock')} ]; do sleep 0.05; done
     ${python} ${root.join('client.py')}
     head -c ${8 * mebibyte} /dev/urandom >${root.join('image')}
     nbdcopy --flush ${root.join('image')} '${uri}'
     nbdcopy '${uri}' - | cmp -n ${8 * mebibyte} - ${root.join('image')}\n`,
  );
  return new Server('bash', [script]);
}

const clients = [
  { name: 'QEMU with reconnect-delay', start: qemuIo },
  { name: 'a libnbd program that connects again', start: libnbdScript },
  { name: 'nbdkit with the retry filter', start: nbdkitRetry },
  { name: 'any client through the proxy', start: proxied },
] as const;

it.for(clients)('$name lives through a kill and a restart', async ({ start }, { skip }) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'disk', '64MiB');
  const serve = (): Promise<Daemon> => Daemon.start({ store, directory: root.path });
  let daemon = await serve();
  const stopFile = root.join('stop');
  await using client = await start({ daemon, root, stopFile });
  for (const end of ['crash', 'stop', 'crash'] as const) {
    await client.until(() => /client entered/.exec(daemon.log)?.[0]);
    await sleep(700);
    expect(client.running, client.log).toBe(true);
    await daemon[end]();
    await sleep(700);
    daemon = await serve();
  }
  await client.until(() => /client entered/.exec(daemon.log)?.[0]);
  await writeFile(stopFile, '');
  expect(await client.ended(), client.log).toBe(0);
  // What qemu-io says of a request that failed, or of other bytes.
  expect(client.log).not.toMatch(/(?:read|write|flush|verification) failed/i);
  await daemon.stop();
});
