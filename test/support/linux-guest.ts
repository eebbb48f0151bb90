/**
 * A throw-away Linux guest: a stock Debian kernel under QEMU's interpreter, whose file system is
 * made of this host's own programs (test/guest/build.sh). It boots in about three seconds, runs one
 * bash script as root and is gone. The host's 127.0.0.1 is 10.0.2.2 in the guest.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { run, Server, TemporaryDirectory } from './programs.ts';
import { missingPrograms } from './requirements.ts';

const kernelDirectory = resolve('node_modules/.cache/elasticdrive/guest-kernel');

/** Why no guest can be started here, or `undefined`. */
export function missingGuest(): string | undefined {
  if (process.arch !== 'x64') return 'missing program: a guest kernel for this processor';
  return missingPrograms({
    'apt-get': 'apt',
    dpkg: 'dpkg',
    'qemu-system-x86_64': 'qemu-system-x86',
    busybox: 'busybox-static',
    cpio: 'cpio',
    depmod: 'kmod',
    ip: 'iproute2',
    'nbd-client': 'nbd-client',
    mdadm: 'mdadm',
    mke2fs: 'e2fsprogs',
    'mkfs.xfs': 'xfsprogs',
    perl: 'perl-base',
  });
}

interface Machine {
  readonly memoryMegabytes: number;
  /** The longest that a script may take. */
  readonly timeLimitMs: number;
  /** An image of the root's file system, of which no machine changes anything. */
  readonly disk: string | undefined;
}

export class LinuxGuest implements AsyncDisposable {
  readonly #image: TemporaryDirectory;
  readonly #machine: Machine;

  private constructor(image: TemporaryDirectory, machine: Machine) {
    this.#image = image;
    this.#machine = machine;
  }

  /** Makes the image; each `run` is then a new machine. */
  static async build(): Promise<LinuxGuest> {
    const image = await TemporaryDirectory.make();
    await run('bash', [resolve('test/guest/build.sh'), kernelDirectory, image.path]);
    return new LinuxGuest(image, { memoryMegabytes: 768, timeLimitMs: 150_000, disk: undefined });
  }

  /** A machine of a usual kind: Debian's systemd, an ext4 root, Node and ElasticDrive installed. */
  static async buildWithSystemd(): Promise<LinuxGuest> {
    await using small = await LinuxGuest.build();
    const image = await TemporaryDirectory.make();
    const script = resolve('test/guest/build-systemd.sh');
    await run('bash', [script, small.#image.path, image.path]);
    const disk = image.join('disk');
    return new LinuxGuest(image, { memoryMegabytes: 1024, timeLimitMs: 900_000, disk });
  }

  /**
   * Boots, runs `test/guest/<script>.sh` with `variables` in its environment, and gives what it
   * printed. Fails, with all of that, when its exit status is not 0 or the guest dies.
   */
  async run(script: string, variables: Readonly<Record<string, string | number>>): Promise<string> {
    await using guest = await this.start(script, variables);
    const output = await guest.finish();
    return output;
  }

  /** The same, without waiting for its end. */
  async start(
    script: string,
    variables: Readonly<Record<string, string | number>>,
  ): Promise<RunningGuest> {
    const machine = await TemporaryDirectory.make();
    await this.#writeInitialFileSystem(machine, script, variables);
    return new RunningGuest(script, machine, this.#image.join('vmlinuz'), this.#machine);
  }

  /** The kernel takes archives one after the other: the image, then what belongs to this run. */
  async #writeInitialFileSystem(
    machine: TemporaryDirectory,
    script: string,
    variables: Readonly<Record<string, string | number>>,
  ): Promise<void> {
    const settings = Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`);
    const body = await readFile(resolve('test/guest', `${script}.sh`), 'utf8');
    const text = `set -euo pipefail\n${settings.join('')}${body}`;
    await writeFile(machine.join('script.sh'), text);
    const pack =
      'mkdir payload && mv script.sh payload && ' +
      '{ cat "$1"; find payload | cpio -o -H newc -R 0:0 --quiet; } >initrd.cpio';
    await run('bash', ['-euc', pack, 'pack', this.#image.join('initrd.cpio')], {
      directory: machine.path,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#image[Symbol.asyncDispose]();
  }
}

/** One booted machine. */
export class RunningGuest implements AsyncDisposable {
  readonly #script: string;
  readonly #machine: TemporaryDirectory;
  readonly #server: Server;
  readonly #timeLimitMs: number;

  constructor(script: string, machine: TemporaryDirectory, kernel: string, hardware: Machine) {
    this.#script = script;
    this.#machine = machine;
    this.#timeLimitMs = hardware.timeLimitMs;
    this.#server = new Server('qemu-system-x86_64', [
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', `${hardware.memoryMegabytes}`],
      ...['-smp', '2'],
      ...['-M', 'q35,sata=off,smbus=off,usb=off,vmport=off', '-nodefaults', '-no-user-config'],
      ...['-display', 'none', '-no-reboot', '-kernel', kernel],
      ...['-initrd', machine.join('initrd.cpio')],
      ...['-append', 'console=ttyS0 panic=-1 reboot=t loglevel=4 mitigations=off nokaslr'],
      ...['-serial', `file:${machine.join('console')}`, '-device', 'virtio-serial-pci'],
      ...['-chardev', `file,id=output,path=${machine.join('output')}`],
      ...['-device', 'virtserialport,chardev=output,name=output', '-device', 'virtio-rng-pci'],
      ...['-netdev', 'user,id=network', '-device', 'virtio-net-pci,netdev=network'],
      ...(hardware.disk === undefined ? [] : diskOf(hardware.disk)),
    ]);
  }

  /** What the script has printed so far. */
  async output(): Promise<string> {
    return readFile(this.#machine.join('output'), 'utf8').catch(() => '');
  }

  /** Waits until `ready` finds in the output what it looks for; fails when the guest ends first. */
  async until<T>(ready: (output: string) => T | undefined): Promise<T> {
    try {
      return await this.#server.until(async () => ready(await this.output()), this.#timeLimitMs);
    } catch (error) {
      throw await this.#failure(String(error));
    }
  }

  /** Waits for the script's end and gives what it printed. */
  async finish(): Promise<string> {
    await this.#server.ended(this.#timeLimitMs).catch(() => undefined);
    const [, text, status = 'none'] = /^(.*)@@status=(\d+)@@\n$/s.exec(await this.output()) ?? [];
    if (text === undefined || status !== '0') throw await this.#failure(`status ${status}`);
    return text;
  }

  /** Ends the machine at once, as a power cut does. */
  async cut(): Promise<void> {
    await this.#server.stop('SIGKILL');
  }

  async #failure(what: string): Promise<Error> {
    const kernel = await readFile(this.#machine.join('console'), 'utf8').catch(() => '');
    const said = `${await this.output()}\n${kernel.slice(-2_000)}`;
    return new Error(`guest ${this.#script}: ${what}\n${said}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await this.#machine[Symbol.asyncDispose]();
  }
}

/** What is written goes to a file that nobody sees. */
function diskOf(image: string): string[] {
  const drive = `file=${image},if=none,id=root,format=raw,cache=unsafe,snapshot=on`;
  return ['-drive', drive, '-device', 'virtio-blk-pci,drive=root'];
}
