import { AssertionError } from '../base/assert.ts';
import { type ErrorCode, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ExportCatalog, ExportHandle } from './export-catalog.ts';
import type { HandshakeMessage } from './handshake-parser.ts';
import { decodeExportQuery, decodeMetaContextQuery, type MetaContextQuery } from './option-data.ts';
import {
  allocationContext,
  clientFlag,
  type Dialect,
  decodeString,
  encodeExportNameAnswer,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoString,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerEntry,
  encodeString,
  infoType,
  knownClientFlags,
  option,
  optionReply,
  transmissionFlag,
} from './wire.ts';

/**
 * What STARTTLS is answered: `unsupported` by a server that does not know it, `forbidden` by one
 * that was told not to offer it. Both are the document's NOTLS mode.
 */
export type TlsPolicy = 'unsupported' | 'forbidden';

/** What the two sides agreed on; the export is in use from now on. */
export interface Agreement {
  readonly handle: ExportHandle;
  readonly dialect: Dialect;
  readonly allocationContext: boolean;
}

/** What to send, and what to do when it is sent. `end` lets the client read it, `cut` does not. */
export interface HandshakeStep {
  readonly replies: readonly Uint8Array[];
  readonly next: 'go-on' | 'end' | 'cut' | Agreement;
}

export interface HandshakeOptions {
  readonly log: Log;
  readonly catalog: ExportCatalog;
  readonly tls: TlsPolicy;
  readonly maximumRequestBytes: number;
  /** Whether the server takes no new work. */
  readonly isShuttingDown: () => boolean;
}

/** The part of the negotiation that a successful STARTTLS would have to forget. */
interface Negotiated {
  structured: boolean;
  extended: boolean;
  /** The name of the export for which `base:allocation` was selected. */
  contextExport: string | undefined;
}

const nothingNegotiated = (): Negotiated => ({
  structured: false,
  extended: false,
  contextExport: undefined,
});

/** The reply to each failure of the catalog; ERR_POLICY stands for what has none of its own. */
const catalogErrorReplies: Readonly<Partial<Record<ErrorCode, number>>> = {
  'not-found': optionReply.errorUnknown,
  'shutting-down': optionReply.errorShutdown,
};

const cut: HandshakeStep = { replies: [], next: 'cut' };

/**
 * The handshake as a conversation of values: a message in, a step out. It holds no socket, and no
 * export but the one that the client last asked about.
 */
export class Handshake {
  private readonly options: HandshakeOptions;
  private readonly negotiated = nothingNegotiated();
  private wantsZeroes = true;
  private held: { readonly name: string; readonly handle: ExportHandle } | undefined;
  private released = false;

  constructor(options: HandshakeOptions) {
    this.options = options;
  }

  async answer(message: HandshakeMessage): Promise<HandshakeStep> {
    switch (message.kind) {
      case 'client-flags':
        if ((message.flags & ~knownClientFlags) !== 0) return cut;
        this.wantsZeroes = (message.flags & clientFlag.noZeroes) === 0;
        return { replies: [], next: 'go-on' };
      case 'oversized-option':
        if (message.option === option.exportName) return cut;
        return refuse(message.option, optionReply.errorTooBig, 'the option data is too long');
      case 'option':
        return this.answerOption(message.option, message.data);
      case 'broken':
        return cut;
    }
  }

  /** Lets go of an export that was asked about and not entered. */
  async release(): Promise<void> {
    this.released = true;
    const { held } = this;
    this.held = undefined;
    await held?.handle.close();
  }

  private async answerOption(number: number, data: Uint8Array): Promise<HandshakeStep> {
    if (number === option.abort) {
      return { replies: [encodeOptionReply(number, optionReply.ack)], next: 'end' };
    }
    if (number === option.exportName) return this.exportName(data);
    if (this.options.isShuttingDown()) {
      return refuse(number, optionReply.errorShutdown, 'the server is shutting down');
    }
    switch (number) {
      case option.list:
        return withoutData(number, data) ?? this.list();
      case option.startTls:
        return withoutData(number, data) ?? this.startTls();
      case option.info:
      case option.go:
        return this.infoOrGo(number, data);
      case option.structuredReply:
        return withoutData(number, data) ?? this.structuredReply();
      case option.extendedHeaders:
        return withoutData(number, data) ?? this.extendedHeaders();
      case option.listMetaContext:
      case option.setMetaContext:
        return this.metaContext(number, data);
      default:
        return refuse(number, optionReply.errorUnsupported, 'the option is unknown');
    }
  }

  /** EXPORT_NAME has no way to say no but to close the connection. */
  private async exportName(data: Uint8Array): Promise<HandshakeStep> {
    const name = decodeString(data);
    if (name === undefined || this.negotiated.extended || this.options.isShuttingDown()) return cut;
    try {
      const agreement = await this.enter(name);
      const { sizeBytes } = agreement.handle.device;
      const flags = this.transmissionFlags(agreement);
      const answer = encodeExportNameAnswer(sizeBytes, flags, this.wantsZeroes);
      return { replies: [answer], next: agreement };
    } catch (error) {
      this.refuseFor(option.exportName, error);
      return cut;
    }
  }

  private async list(): Promise<HandshakeStep> {
    try {
      const found = await this.options.catalog.list();
      const replies = found.map(({ name, description }) =>
        encodeOptionReply(option.list, optionReply.server, encodeServerEntry(name, description)),
      );
      return {
        replies: [...replies, encodeOptionReply(option.list, optionReply.ack)],
        next: 'go-on',
      };
    } catch (error) {
      return this.refuseFor(option.list, error);
    }
  }

  private startTls(): HandshakeStep {
    return this.options.tls === 'forbidden'
      ? refuse(option.startTls, optionReply.errorPolicy, 'TLS is switched off on this server')
      : refuse(option.startTls, optionReply.errorUnsupported, 'this server does not support TLS');
  }

  private structuredReply(): HandshakeStep {
    if (this.negotiated.extended) {
      return refuse(
        option.structuredReply,
        optionReply.errorExtendedHeadersRequired,
        'extended headers are in use already',
      );
    }
    this.negotiated.structured = true;
    return accept(option.structuredReply);
  }

  private extendedHeaders(): HandshakeStep {
    this.negotiated.extended = true;
    return accept(option.extendedHeaders);
  }

  private async infoOrGo(number: number, data: Uint8Array): Promise<HandshakeStep> {
    const query = decodeExportQuery(data);
    if (query === undefined) {
      return refuse(number, optionReply.errorInvalid, 'the option data is malformed');
    }
    try {
      const handle = await this.hold(query.name);
      const agreement = this.agreementOn(query.name, handle);
      const infos = this.infosOf(agreement, query.infoTypes);
      const replies = infos.map((info) => encodeOptionReply(number, optionReply.info, info));
      replies.push(encodeOptionReply(number, optionReply.ack));
      if (number === option.info) return { replies, next: 'go-on' };
      this.held = undefined;
      return { replies, next: agreement };
    } catch (error) {
      return this.refuseFor(number, error);
    }
  }

  private infosOf(agreement: Agreement, wanted: ReadonlySet<number>): Uint8Array[] {
    const { device, name, description } = agreement.handle;
    const infos = [encodeInfoExport(device.sizeBytes, this.transmissionFlags(agreement))];
    if (wanted.has(infoType.name)) infos.push(encodeInfoString(infoType.name, name));
    if (wanted.has(infoType.description) && description !== undefined) {
      infos.push(encodeInfoString(infoType.description, description));
    }
    if (wanted.has(infoType.blockSize)) {
      const maximum = this.options.maximumRequestBytes;
      const preferred = Math.min(Math.max(device.preferredBlockBytes, 512), maximum);
      infos.push(encodeInfoBlockSize(1, preferred, maximum));
    }
    return infos;
  }

  private async metaContext(number: number, data: Uint8Array): Promise<HandshakeStep> {
    // SET replaces what was selected before, even when it fails.
    if (number === option.setMetaContext) this.negotiated.contextExport = undefined;
    if (this.dialect === 'simple') {
      return refuse(number, optionReply.errorInvalid, 'structured replies must be agreed on first');
    }
    const query = decodeMetaContextQuery(data);
    if (query === undefined) {
      return refuse(number, optionReply.errorInvalid, 'the option data is malformed');
    }
    try {
      await this.hold(query.name);
    } catch (error) {
      return this.refuseFor(number, error);
    }
    const listing = number === option.listMetaContext;
    const replies: Uint8Array[] = [];
    if (selectsAllocation(query, listing)) {
      if (!listing) this.negotiated.contextExport = query.name;
      const context = encodeMetaContext(listing ? 0 : allocationContext.id, allocationContext.name);
      replies.push(encodeOptionReply(number, optionReply.metaContext, context));
    }
    replies.push(encodeOptionReply(number, optionReply.ack));
    return { replies, next: 'go-on' };
  }

  /** What a client is told when the catalog fails, and the operator with it. */
  private refuseFor(number: number, error: unknown): HandshakeStep {
    if (error instanceof AssertionError) throw error;
    const { code, message } = toStorageError(error);
    this.options.log.warn('option refused', { option: number, code, error: message });
    const type = catalogErrorReplies[code] ?? optionReply.errorPolicy;
    return refuse(number, type, code === 'internal' ? 'internal error' : message);
  }

  private get dialect(): Dialect {
    if (this.negotiated.extended) return 'extended';
    return this.negotiated.structured ? 'structured' : 'simple';
  }

  private transmissionFlags(agreement: Agreement): number {
    let flags =
      transmissionFlag.hasFlags |
      transmissionFlag.sendFlush |
      transmissionFlag.sendFua |
      transmissionFlag.sendTrim |
      transmissionFlag.sendWriteZeroes |
      transmissionFlag.sendCache |
      transmissionFlag.sendFastZero |
      transmissionFlag.canMultiConn;
    if (agreement.handle.device.readOnly) flags |= transmissionFlag.readOnly;
    if (agreement.dialect !== 'simple') flags |= transmissionFlag.sendDf;
    if (agreement.dialect === 'extended' && agreement.allocationContext) {
      flags |= transmissionFlag.blockStatusPayload;
    }
    return flags;
  }

  private agreementOn(name: string, handle: ExportHandle): Agreement {
    const allocation = this.negotiated.contextExport === name;
    return { handle, dialect: this.dialect, allocationContext: allocation };
  }

  private async enter(name: string): Promise<Agreement> {
    const handle = await this.hold(name);
    this.held = undefined;
    return this.agreementOn(name, handle);
  }

  /** Opens the export and keeps it, so that INFO and the GO after it speak of the same one. */
  private async hold(name: string): Promise<ExportHandle> {
    if (this.held?.name === name) return this.held.handle;
    const before = this.held;
    this.held = undefined;
    await before?.handle.close();
    const handle = await this.options.catalog.open(name);
    if (this.released) {
      // The client left while the export was being opened.
      await handle.close();
    } else {
      this.held = { name, handle };
    }
    return handle;
  }
}

function accept(number: number): HandshakeStep {
  return { replies: [encodeOptionReply(number, optionReply.ack)], next: 'go-on' };
}

function refuse(number: number, type: number, message: string): HandshakeStep {
  return { replies: [encodeOptionReply(number, type, encodeString(message))], next: 'go-on' };
}

function withoutData(number: number, data: Uint8Array): HandshakeStep | undefined {
  if (data.length === 0) return undefined;
  return refuse(number, optionReply.errorInvalid, 'this option takes no data');
}

/** `base:` is a wildcard when listing and selects nothing when setting; so does no query at all. */
function selectsAllocation(query: MetaContextQuery, listing: boolean): boolean {
  if (query.queries.includes(allocationContext.name)) return true;
  return listing && (query.queries.length === 0 || query.queries.includes('base:'));
}
