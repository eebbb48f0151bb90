import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { ByteIntake } from './byte-intake.ts';
import {
  decodeInfoExport,
  decodeOptionReplyHeader,
  decodeSimpleReply,
  encodeGo,
  encodeRequest,
  type ExportInfo,
  greetingBytes,
  isGreeting,
  optionReplyHeaderBytes,
} from './client-wire.ts';
import { command, decodeString, infoType, optionReply, simpleReplyBytes, viewOf } from './wire.ts';

/** The part of a socket that a link uses. */
export type LinkSocket = Duplex & Pick<Socket, 'destroySoon'>;

export interface RemoteLinkOptions {
  readonly socket: LinkSocket;
  readonly exportName: string;
  readonly clock: Clock;
  /** Where the data of a successful reply to this request go; undefined when none follow it. */
  readonly dataOf: (cookie: number) => Uint8Array | undefined;
  readonly onReply: (cookie: number, error: number) => void;
  /** Called once when the link is of no more use, also when it never was. */
  readonly onEnd: (reason: StorageError) => void;
}

const handshakeMs = 10_000;
const optionDataBytesMaximum = 256 * 1024;

/** One connection to a server, as its client: the handshake, then requests and simple replies. */
export class RemoteLink {
  private readonly options: RemoteLinkOptions;
  private readonly intake = new ByteIntake();
  private target: Uint8Array;
  private haveBytes = 0;
  private whenFilled: (bytes: Uint8Array) => void;
  private info: ExportInfo | undefined;
  private over = false;
  private readonly settled = Promise.withResolvers<StorageError>();
  private readonly opened = Promise.withResolvers<ExportInfo>();
  private readonly cancelTimer: () => void;

  constructor(options: RemoteLinkOptions) {
    this.options = options;
    const { socket, clock } = options;
    this.target = new Uint8Array(greetingBytes);
    this.whenFilled = this.greeted;
    // Whoever does not wait for the opening hears of the end.
    this.opened.promise.catch(() => undefined);
    this.cancelTimer = clock.after(handshakeMs, () => this.end('does not answer the handshake'));
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', (error) => this.end(error.message));
    socket.on('end', () => this.end('closed the connection'));
    socket.on('close', () => this.end('closed the connection'));
  }

  /** Resolves with the reason when the link is of no more use. */
  get ended(): Promise<StorageError> {
    return this.settled.promise;
  }

  get isOver(): boolean {
    return this.over;
  }

  /** What the server said of the export; rejects when it refused. */
  get ready(): Promise<ExportInfo> {
    return this.opened.promise;
  }

  send(
    number: number,
    flags: number,
    cookie: number,
    offset: number,
    lengthBytes: number,
    payload?: Uint8Array,
  ): void {
    const { socket } = this.options;
    const header = encodeRequest(number, flags, cookie, offset, lengthBytes);
    if (payload === undefined) {
      socket.write(header);
      return;
    }
    socket.cork();
    socket.write(header);
    socket.write(payload);
    socket.uncork();
  }

  /** Takes leave, as a client that wants nothing more. */
  close(): void {
    if (this.over) return;
    this.send(command.disconnect, 0, 0, 0, 0);
    this.end('closed by us');
  }

  /** The server is of no more use. */
  end(reason: string): void {
    if (this.over) return;
    this.over = true;
    this.cancelTimer();
    const error = new StorageError('shutting-down', reason);
    this.opened.reject(error);
    this.settled.resolve(error);
    this.options.socket.destroySoon();
    this.options.onEnd(error);
  }

  private receive(chunk: Uint8Array): void {
    this.intake.push(chunk);
    while (this.intake.availableBytes > 0 && !this.over) {
      this.haveBytes = this.intake.fill(this.target, this.haveBytes);
      if (this.haveBytes < this.target.length) return;
      this.whenFilled(this.target);
    }
    this.intake.takeRest();
  }

  /** Reads into `target` next. Nothing to read is no wait. */
  private await(target: Uint8Array, then: (bytes: Uint8Array) => void): void {
    this.target = target;
    this.haveBytes = 0;
    this.whenFilled = then;
    if (target.length === 0) then(target);
  }

  private readonly greeted = (bytes: Uint8Array): void => {
    if (!isGreeting(bytes)) {
      this.end('is not an NBD server of today');
      return;
    }
    this.options.socket.write(encodeGo(this.options.exportName));
    this.awaitOptionReply();
  };

  private awaitOptionReply(): void {
    this.await(new Uint8Array(optionReplyHeaderBytes), (bytes) => {
      const header = decodeOptionReplyHeader(bytes);
      if (header === undefined || header.dataBytes > optionDataBytesMaximum) {
        this.end('says something that is no answer');
        return;
      }
      this.await(new Uint8Array(header.dataBytes), (data) => this.optionReplied(header.type, data));
    });
  }

  private optionReplied(type: number, data: Uint8Array): void {
    if (type === optionReply.info) {
      if (data.length >= 12 && viewOf(data).getUint16(0) === infoType.export) {
        this.info = decodeInfoExport(data);
      }
      this.awaitOptionReply();
    } else if (type === optionReply.ack && this.info !== undefined) {
      this.cancelTimer();
      this.awaitReply();
      this.opened.resolve(this.info);
    } else {
      const why = decodeString(data) ?? '';
      this.end(`refuses the export: ${why === '' ? `error ${type - 0x8000_0000}` : why}`);
    }
  }

  private readonly replyBytes = new Uint8Array(simpleReplyBytes);

  private awaitReply(): void {
    this.await(this.replyBytes, (bytes) => {
      const reply = decodeSimpleReply(bytes);
      if (reply === undefined) {
        this.end('says something that is no reply');
        return;
      }
      const { cookie, error } = reply;
      const data = error === 0 ? this.options.dataOf(cookie) : undefined;
      this.await(data ?? new Uint8Array(0), () => {
        this.awaitReply();
        this.options.onReply(cookie, error);
      });
    });
  }
}
