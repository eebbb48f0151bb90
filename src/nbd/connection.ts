import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { AssertionError } from '../base/assert.ts';
import { toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BusyPoll } from './busy-poll.ts';
import type { ByteBudget } from './byte-budget.ts';
import { type ClientSocket, streamClient } from './client-socket.ts';
import { type Agreement, Handshake, type HandshakeOptions } from './handshake.ts';
import { HandshakeParser } from './handshake-parser.ts';
import type { NbdLimits } from './limits.ts';
import { LentBytes } from '../base/lent-bytes.ts';
import type { BatchPool } from './reply-writer.ts';
import type { TlsUpgrade } from './tls.ts';
import { type SessionCounters, Transmission } from './transmission.ts';
import { encodeGreeting, handshakeFlag } from './wire.ts';

export interface ConnectionOptions extends HandshakeOptions {
  readonly clock: Clock;
  readonly limits: NbdLimits;
  readonly budget: ByteBudget;
  readonly pool: BatchPool;
  /** There where the policy is to offer TLS. */
  readonly upgrade?: TlsUpgrade | undefined;
  readonly busyPoll?: BusyPoll | undefined;
}

/** One client from its socket's opening to the end of its last request. */
export class Connection {
  /** Where the client is, for people. */
  readonly peer: string;
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>;
  /** Resolves when, besides, every request has settled and the export was let go. */
  readonly released: Promise<void>;

  private client: ClientSocket;
  private socket: Duplex;
  private readonly options: ConnectionOptions;
  private readonly log: Log;
  private readonly handshake: Handshake;
  private readonly parser: HandshakeParser;
  private session:
    | { readonly agreement: Agreement; readonly transmission: Transmission }
    | undefined;
  private negotiating = false;
  /** The answer to what the client said last. */
  private conversation: Promise<void> = Promise.resolve();
  private ending = false;
  private cancelTimer: () => void;
  private readonly settleReleased: () => void;
  private readonly settleClosed: () => void;

  constructor(client: ClientSocket, peer: string, options: ConnectionOptions) {
    this.client = client;
    this.socket = client.stream;
    this.peer = peer;
    this.options = options;
    this.log = options.log.with({ peer });
    this.handshake = new Handshake({ ...options, log: this.log });
    this.parser = new HandshakeParser(options.limits.optionBytes);
    const released = Promise.withResolvers<void>();
    this.released = released.promise;
    this.settleReleased = released.resolve;
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    this.settleClosed = closed.resolve;
    this.cancelTimer = options.clock.after(options.limits.handshakeMs, () => {
      this.cut('the handshake took too long');
    });
    this.attend(client);
    this.socket.write(encodeGreeting(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes));
    this.socket.resume();
  }

  /** Takes what the client says from this socket on, and notices its end. */
  private attend(client: ClientSocket): void {
    const { stream } = client;
    this.client = client;
    this.socket = stream;
    client.receive = this.negotiate;
    stream.on('error', (error) => this.log.debug('connection failed', { error: error.message }));
    stream.on('end', this.endOfInput);
    stream.on('close', this.socketClosed);
  }

  /** The export's name and what was done with it, once the handshake is over. */
  get status(): { readonly exportName: string; readonly counters: SessionCounters } | undefined {
    if (this.session === undefined) return undefined;
    const { agreement, transmission } = this.session;
    return { exportName: agreement.handle.name, counters: transmission.counters };
  }

  /** Takes no more requests, answers those under way and closes. */
  drain(): void {
    if (this.session !== undefined) this.session.transmission.stop();
    else if (!this.negotiating) this.end();
  }

  /** Closes at once. */
  destroy(): void {
    this.socket.destroy();
  }

  private readonly negotiate = (chunk: LentBytes): void => {
    // A copy: what is said here is little, and is looked at long after it came.
    this.parser.push(Buffer.from(chunk.bytes));
    chunk.release();
    this.socket.pause();
    this.negotiating = true;
    this.conversation = this.converse().catch((error: unknown) => {
      if (error instanceof AssertionError) throw error;
      // Whatever a client said or a catalog did, only this client is to suffer from it.
      this.log.error('handshake failed', { error: toStorageError(error).message });
      this.socket.destroy();
    });
  };

  private async converse(): Promise<void> {
    for (;;) {
      const message = this.parser.next();
      if (message === undefined) break;
      const step = await this.handshake.answer(message);
      if (this.socket.destroyed) {
        if (typeof step.next === 'object') await this.letGo(step.next);
        return;
      }
      this.socket.cork();
      for (const reply of step.replies) this.socket.write(reply);
      this.socket.uncork();
      if (step.next === 'go-on') continue;
      if (step.next === 'start-tls') {
        await this.startTls();
        break;
      }
      this.negotiating = false;
      if (step.next === 'cut') this.cut('the handshake was refused');
      else if (step.next === 'end') this.end();
      else this.transmit(step.next);
      return;
    }
    this.negotiating = false;
    if (this.options.isShuttingDown()) this.end();
    else this.socket.resume();
  }

  /** Goes on over TLS; what the client said before its handshake would be said by anybody. */
  private async startTls(): Promise<void> {
    const { client, socket } = this;
    const { upgrade } = this.options;
    if (this.parser.takeRest().length > 0 || upgrade === undefined || client.detach === undefined) {
      this.cut('data came before the TLS handshake');
      return;
    }
    client.detach();
    socket.off('end', this.endOfInput);
    const { stream, identity } = await upgrade.secure(socket);
    socket.off('close', this.socketClosed);
    this.attend(streamClient(stream));
    await this.handshake.secured(identity);
    this.log.debug('encrypted', { client: identity?.name });
  }

  private transmit(agreement: Agreement): void {
    const { clock, limits, budget, pool, busyPoll } = this.options;
    this.cancelTimer();
    const transmission = new Transmission({
      socket: this.socket,
      device: agreement.handle.device,
      dialect: agreement.dialect,
      contexts: agreement.contexts,
      clock,
      log: this.log.with({ export: agreement.handle.name }),
      limits,
      budget,
      pool,
      busyPoll,
      onFinished: () => this.finished(agreement),
      onBroken: (reason) => this.cut(reason),
    });
    this.session = { agreement, transmission };
    this.log.info('client entered', { export: agreement.handle.name });
    this.client.receive = (chunk) => transmission.receive(chunk);
    this.socket.resume();
    const rest = this.parser.takeRest();
    if (rest.length > 0) transmission.receive(new LentBytes(rest));
    if (this.options.isShuttingDown()) transmission.stop();
  }

  /** The client sends nothing more: answer what it asked and close. */
  private readonly endOfInput = (): void => {
    if (this.session !== undefined) this.session.transmission.stop();
    else this.end();
  };

  private finished(agreement: Agreement): void {
    if (!this.socket.destroyed) this.end();
    void this.closed.then(() => this.letGo(agreement)).then(this.settleReleased);
  }

  private async letGo(agreement: Agreement): Promise<void> {
    try {
      await agreement.handle.close();
    } catch (error) {
      const { message } = toStorageError(error);
      this.log.error('export was not let go', { export: agreement.handle.name, error: message });
    }
  }

  /** Sends what is written, then closes; what the client still sends is thrown away. */
  private end(): void {
    if (this.ending) return;
    this.ending = true;
    this.cancelTimer();
    this.cancelTimer = this.options.clock.after(this.options.limits.lingerMs, () => {
      this.socket.destroy();
    });
    this.client.receive = (chunk) => chunk.release();
    this.socket.resume();
    this.socket.end();
  }

  private cut(reason: string): void {
    this.log.warn('client cut off', { reason });
    this.socket.destroy();
  }

  private readonly socketClosed = (): void => {
    this.cancelTimer();
    this.settleClosed();
    if (this.session !== undefined) {
      this.session.transmission.disconnected();
      return;
    }
    void this.conversation
      .then(() => this.handshake.release())
      .catch((error: unknown) => {
        this.log.error('export was not let go', { error: toStorageError(error).message });
      })
      .then(this.settleReleased);
  };
}
