import type { BlockDevice, Done, Extent, WriteOptions, ZeroOptions } from '../base/block-device.ts';
import { type Clock, sleep } from '../base/clock.ts';
import { type ErrorCode, StorageError, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ExportInfo } from './client-wire.ts';
import { type LinkSocket, RemoteLink } from './remote-link.ts';
import { type Change, UnflushedChanges } from './unflushed-changes.ts';
import { command, commandFlag, errorNumber, transmissionFlag } from './wire.ts';

export interface RemoteDeviceOptions {
  /** Opens a socket to the server; rejects as the system does. */
  readonly connect: () => Promise<LinkSocket>;
  readonly exportName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Copies of answered and unflushed writes that are kept before they are flushed unasked. */
  readonly unflushedBytes: number;
}

/** A request that is not answered. */
interface Request {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly payload?: Uint8Array;
  readonly into?: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: StorageError) => void;
}

const retryMinimumMs = 50;
/** In this time a connection whose server is gone is noticed to be. */
const noticeMs = 200;
const retryMaximumMs = 1_000;
/** TRIM, WRITE_ZEROES and CACHE say any 32-bit length; a round one stays aligned. */
const effectBytesMaximum = 2 ** 30;

const errorCodes: ReadonlyMap<number, ErrorCode> = new Map([
  [errorNumber.EPERM, 'read-only'],
  [errorNumber.ENOSPC, 'no-space'],
  [errorNumber.EINVAL, 'out-of-range'],
  [errorNumber.EOVERFLOW, 'out-of-range'],
  [errorNumber.ENOTSUP, 'unsupported'],
]);

/**
 * The export of an NBD server as a device that outlives its server. While the server is away every
 * request waits; when it is back, what it had answered and not flushed is written again, in order,
 * for it may have lost that with its power, and then what it had not answered. So a flush is never
 * answered over writes that are gone. No other client may write the export.
 */
export class RemoteDevice implements BlockDevice {
  readonly preferredBlockBytes = 4096;
  private readonly options: RemoteDeviceOptions;
  private info: ExportInfo = { sizeBytes: 0, flags: 0 };
  private link: RemoteLink | undefined;
  /** Not answered, in the order in which they came. */
  private readonly requests = new Map<number, Request>();
  private readonly changes: UnflushedChanges;
  private lastCookie = 0;
  private retryMs = retryMinimumMs;
  private flushing = false;
  private closed = false;
  private cancelRetry: (() => void) | undefined;
  private asking: Promise<void> | undefined;
  /** Resolves when the server is back, or nobody waits for it any more. */
  private connecting = Promise.withResolvers<void>();

  private constructor(options: RemoteDeviceOptions) {
    this.options = options;
    this.changes = new UnflushedChanges(options.unflushedBytes);
  }

  /** Rejects when the server cannot be reached or refuses now; later it may be away. */
  static async open(options: RemoteDeviceOptions): Promise<RemoteDevice> {
    const device = new RemoteDevice(options);
    await device.connect();
    return device;
  }

  get sizeBytes(): number {
    return this.info.sizeBytes;
  }

  /**
   * Asks the server again how large its export is, on a connection of its own: on an open one the
   * protocol says nothing of it. While the server is away this waits, as every request does.
   */
  askSize(): Promise<void> {
    this.asking ??= this.askNow().finally(() => {
      this.asking = undefined;
    });
    return this.asking;
  }

  private async askNow(): Promise<void> {
    const { clock, log } = this.options;
    for (;;) {
      if (this.closed) return;
      const { link } = this;
      // Whoever comes back says how large it is.
      if (link === undefined) return this.connecting.promise;
      try {
        return await this.lookAtSize();
      } catch (error) {
        log.debug('the size is not known anew', { reason: toStorageError(error).message });
        await sleep(clock, noticeMs);
        // It is there and does not say: what is known stays.
        if (this.link === link) return;
      }
    }
  }

  private async lookAtSize(): Promise<void> {
    const { connect, exportName, clock, log } = this.options;
    const link = new RemoteLink({
      socket: await connect(),
      exportName,
      clock,
      dataOf: () => undefined,
      onReply: () => undefined,
      onEnd: () => undefined,
    });
    const { sizeBytes } = await link.ready;
    link.close();
    if (sizeBytes <= this.info.sizeBytes) return;
    this.info = { ...this.info, sizeBytes };
    log.info('the export has grown', { export: exportName, sizeBytes });
  }

  get readOnly(): boolean {
    return this.offers(transmissionFlag.readOnly);
  }

  get connected(): boolean {
    return this.link !== undefined;
  }

  read(offset: number, into: Uint8Array): Done {
    return this.ask({ command: command.read, flags: 0, offset, lengthBytes: into.length, into });
  }

  write(offset: number, from: Uint8Array, { fua }: WriteOptions): Done {
    const request = { command: command.write, offset, lengthBytes: from.length, payload: from };
    return this.change({ ...request, flags: 0 }, fua);
  }

  zero(offset: number, lengthBytes: number, { fua, mayPunchHole }: ZeroOptions): Done {
    if (!this.offers(transmissionFlag.sendWriteZeroes)) {
      throw new StorageError('unsupported', 'The server cannot write zeroes.');
    }
    const flags = mayPunchHole ? 0 : commandFlag.noHole;
    return this.inParts(offset, lengthBytes, fua, { command: command.writeZeroes, flags });
  }

  trim(offset: number, lengthBytes: number, { fua }: WriteOptions): Done {
    if (!this.offers(transmissionFlag.sendTrim)) return undefined;
    return this.inParts(offset, lengthBytes, fua, { command: command.trim, flags: 0 });
  }

  async flush(): Promise<void> {
    if (!this.offers(transmissionFlag.sendFlush)) return;
    const covered = this.changes.mark();
    await this.ask({ command: command.flush, flags: 0, offset: 0, lengthBytes: 0 });
    this.changes.flushed(covered);
  }

  prefetch(): Done {
    return undefined;
  }

  /** The server is not asked: all of it may be data. */
  async status(_offset: number, lengthBytes: number): Promise<Extent[]> {
    return [{ lengthBytes, hole: false, zero: false }];
  }

  /** Takes leave of the server; what is not answered never will be. */
  close(): void {
    this.closed = true;
    this.cancelRetry?.();
    this.connecting.resolve();
    this.link?.close();
    const reason = new StorageError('shutting-down', 'The connection to the server was given up.');
    for (const { reject } of this.requests.values()) reject(reason);
    this.requests.clear();
  }

  private offers(flag: number): boolean {
    return (this.info.flags & flag) !== 0;
  }

  private inParts(
    offset: number,
    lengthBytes: number,
    fua: boolean,
    what: { readonly command: number; readonly flags: number },
  ): Promise<void> {
    const parts: Promise<void>[] = [];
    for (let done = 0; done < lengthBytes; done += effectBytesMaximum) {
      const part = Math.min(effectBytesMaximum, lengthBytes - done);
      parts.push(this.change({ ...what, offset: offset + done, lengthBytes: part }, fua));
    }
    return Promise.all(parts).then(() => undefined);
  }

  private async change(change: Change, fua: boolean): Promise<void> {
    const keeps = this.offers(transmissionFlag.sendFlush);
    const forced = fua && this.offers(transmissionFlag.sendFua);
    const kept = keeps ? this.changes.begin(change) : undefined;
    try {
      await this.ask({ ...change, flags: change.flags | (forced ? commandFlag.fua : 0) });
    } catch (error) {
      if (kept !== undefined) this.changes.forget(kept);
      throw error;
    }
    if (kept !== undefined) this.changes.answered(kept);
    if (fua && !forced) await this.flush();
    else if (this.changes.isFull) await this.flushUnasked();
  }

  /** Makes room for copies. Who wrote while there is none waits for it, which bounds them. */
  private async flushUnasked(): Promise<void> {
    if (this.flushing && !this.changes.isOverfull) return;
    this.flushing = true;
    try {
      await this.flush();
    } finally {
      this.flushing = false;
    }
  }

  private ask(what: Omit<Request, 'resolve' | 'reject'>): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.closed) {
        reject(new StorageError('shutting-down', 'The connection to the server was given up.'));
        return;
      }
      this.lastCookie += 1;
      const request = { ...what, resolve, reject };
      this.requests.set(this.lastCookie, request);
      if (this.link !== undefined) send(this.link, this.lastCookie, request);
    });
  }

  private async connect(): Promise<void> {
    const { options } = this;
    const replaying = new Map<number, () => void>();
    const link: RemoteLink = new RemoteLink({
      socket: await options.connect(),
      exportName: options.exportName,
      clock: options.clock,
      dataOf: (cookie) => this.requests.get(cookie)?.into,
      onReply: (cookie, error) => {
        const replayed = replaying.get(cookie);
        if (replayed === undefined) this.replied(link, cookie, error);
        else if (error === 0) replayed();
        else link.end(`refuses with error ${error} what it took before`);
      },
      onEnd: (reason) => this.lost(link, reason),
    });
    const info = await link.ready;
    if (info.sizeBytes < this.info.sizeBytes) {
      link.end(`has an export of ${info.sizeBytes} bytes, it was ${this.info.sizeBytes}`);
    }
    const replayed = await this.replay(link, replaying);
    if (link.isOver) throw await link.ended;
    if (this.closed) {
      link.close();
      return;
    }
    this.info = info;
    this.link = link;
    this.connecting.resolve();
    const waited = this.requests.size;
    for (const [cookie, request] of this.requests) send(link, cookie, request);
    if (replayed + waited > 0) {
      options.log.info('the server is back', { replayed, waited, export: options.exportName });
    }
    this.retryMs = retryMinimumMs;
  }

  /** Writes again what was answered and is not flushed: those that overlap one after the other. */
  private async replay(link: RemoteLink, replaying: Map<number, () => void>): Promise<number> {
    let count = 0;
    for (const group of this.changes.inOrder()) {
      const answers = group.map((change) => {
        this.lastCookie += 1;
        const cookie = this.lastCookie;
        const answer = new Promise<void>((resolve) => replaying.set(cookie, resolve));
        send(link, cookie, change);
        return answer;
      });
      const ended = link.ended.then((reason) => {
        throw reason;
      });
      await Promise.race([Promise.all(answers), ended]);
      replaying.clear();
      count += group.length;
    }
    return count;
  }

  private replied(link: RemoteLink, cookie: number, error: number): void {
    const request = this.requests.get(cookie);
    if (request === undefined) {
      link.end('answers what it was not asked');
      return;
    }
    // The server goes down: whoever comes up in its place will be asked.
    if (error === errorNumber.ESHUTDOWN) {
      link.end('is shutting down');
      return;
    }
    this.requests.delete(cookie);
    if (error === 0) request.resolve();
    else {
      const code = errorCodes.get(error) ?? 'local-io';
      request.reject(new StorageError(code, `The server answered with error ${error}.`));
    }
  }

  private lost(link: RemoteLink, reason: StorageError): void {
    if (this.closed || this.link !== link) return;
    this.link = undefined;
    this.connecting = Promise.withResolvers();
    this.options.log.warn('the server is away; requests wait', {
      reason: reason.message,
      export: this.options.exportName,
    });
    this.retry();
  }

  private retry(): void {
    if (this.closed) return;
    this.cancelRetry = this.options.clock.after(this.retryMs, () => {
      this.connect().catch((error: unknown) => {
        this.options.log.debug('not yet', { reason: toStorageError(error).message });
        this.retryMs = Math.min(retryMaximumMs, this.retryMs * 2);
        this.retry();
      });
    });
  }
}

function send(link: RemoteLink, cookie: number, request: Change): void {
  const { command: number, flags, offset, lengthBytes, payload } = request;
  link.send(number, flags, cookie, offset, lengthBytes, payload);
}
