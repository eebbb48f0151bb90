import { AssertionError } from '../base/assert.ts';
import { type ErrorCode, StorageError, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ExportCatalog, ExportHandle } from './export-catalog.ts';
import type { HandshakeMessage } from './handshake-parser.ts';
import { contextNames, listContexts, type MetaContext, selectContexts } from './meta-contexts.ts';
import { decodeExportQuery, decodeMetaContextQuery } from './option-data.ts';
import type { ClientIdentity, TlsPolicy } from './tls.ts';
import {
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

/** What the two sides agreed on; the export is in use from now on. */
export interface Agreement {
  readonly handle: ExportHandle;
  readonly dialect: Dialect;
  /** The metadata contexts that were selected for this export. */
  readonly contexts: readonly MetaContext[];
}

/**
 * What to send, and what to do when it is sent. `end` lets the client read it, `cut` does not;
 * `start-tls` goes on with a new parser on the encrypted stream, after `secured`.
 */
export interface HandshakeStep {
  readonly replies: readonly Uint8Array[];
  readonly next: 'go-on' | 'start-tls' | 'end' | 'cut' | Agreement;
}

export interface HandshakeOptions {
  readonly log: Log;
  readonly catalog: ExportCatalog;
  readonly tls: TlsPolicy;
  readonly maximumRequestBytes: number;
  readonly maximumContexts: number;
  /** Whether the server takes no new work. */
  readonly isShuttingDown: () => boolean;
}

/** The part of the negotiation that a successful STARTTLS forgets. */
interface Negotiated {
  structured: boolean;
  extended: boolean;
  selection: Selection | undefined;
}

/** The metadata contexts that were selected for an export. */
interface Selection {
  readonly exportName: string;
  /** The export as it was then. */
  readonly handle: ExportHandle;
  readonly contexts: readonly MetaContext[];
}

const nothingNegotiated = (): Negotiated => ({
  structured: false,
  extended: false,
  selection: undefined,
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
  private negotiated = nothingNegotiated();
  /** Who the client is, once its stream is encrypted. */
  private encrypted: { readonly identity: ClientIdentity | undefined } | undefined;
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

  /** The stream is encrypted from now on: all that was said before counts no more. */
  async secured(identity: ClientIdentity | undefined): Promise<void> {
    this.encrypted = { identity };
    this.negotiated = nothingNegotiated();
    await this.letGo();
  }

  /** Lets go of an export that was asked about and not entered. */
  async release(): Promise<void> {
    this.released = true;
    await this.letGo();
  }

  private async letGo(): Promise<void> {
    const { held } = this;
    this.held = undefined;
    await held?.handle.close();
  }

  private async answerOption(number: number, data: Uint8Array): Promise<HandshakeStep> {
    if (number === option.abort) {
      return { replies: [encodeOptionReply(number, optionReply.ack)], next: 'end' };
    }
    const needsTls = this.options.tls === 'required' && this.encrypted === undefined;
    if (needsTls && number !== option.startTls) {
      if (number === option.exportName) return cut;
      return refuse(number, optionReply.errorTlsRequired, 'this server wants STARTTLS first');
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
      const found = await this.options.catalog.list(this.encrypted?.identity);
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
    const number = option.startTls;
    switch (this.options.tls) {
      case 'unsupported':
        return refuse(number, optionReply.errorUnsupported, 'this server does not support TLS');
      case 'forbidden':
        return refuse(number, optionReply.errorPolicy, 'TLS is switched off on this server');
      default:
        return this.encrypted === undefined
          ? { replies: [encodeOptionReply(number, optionReply.ack)], next: 'start-tls' }
          : refuse(number, optionReply.errorInvalid, 'TLS is in use already');
    }
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
      const agreement = await this.agreementOn(query.name, handle);
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
    if (number === option.setMetaContext) this.negotiated.selection = undefined;
    if (this.dialect === 'simple') {
      return refuse(number, optionReply.errorInvalid, 'structured replies must be agreed on first');
    }
    const query = decodeMetaContextQuery(data);
    if (query === undefined) {
      return refuse(number, optionReply.errorInvalid, 'the option data is malformed');
    }
    try {
      const handle = await this.hold(query.name);
      return number === option.setMetaContext
        ? await this.select(query.name, handle, query.queries)
        : answerContexts(number, await listContexts(handle.device, query.queries), () => 0);
    } catch (error) {
      return this.refuseFor(number, error);
    }
  }

  private async select(
    exportName: string,
    handle: ExportHandle,
    queries: readonly string[],
  ): Promise<HandshakeStep> {
    const number = option.setMetaContext;
    const wanted = contextNames(queries);
    if (wanted.length > this.options.maximumContexts) {
      return refuse(number, optionReply.errorTooBig, 'these are too many metadata contexts');
    }
    const contexts = await selectContexts(handle.device, wanted);
    this.negotiated.selection = { exportName, handle, contexts };
    const names = contexts.map(({ name }) => name);
    return answerContexts(number, names, (index) => contexts[index]?.id ?? 0);
  }

  /** What was selected for the export. It may have been let go of since, and opened again. */
  private async contextsOf(name: string, handle: ExportHandle): Promise<readonly MetaContext[]> {
    const { selection } = this.negotiated;
    if (selection === undefined || selection.exportName !== name) return [];
    if (selection.handle === handle) return selection.contexts;
    const names = selection.contexts.map((context) => context.name);
    const contexts = await selectContexts(handle.device, names);
    if (contexts.length === names.length) return contexts;
    throw new StorageError('conflict', 'a metadata context that was selected is there no more');
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
    if (agreement.dialect === 'extended' && agreement.contexts.length > 0) {
      flags |= transmissionFlag.blockStatusPayload;
    }
    return flags;
  }

  private async agreementOn(name: string, handle: ExportHandle): Promise<Agreement> {
    return { handle, dialect: this.dialect, contexts: await this.contextsOf(name, handle) };
  }

  private async enter(name: string): Promise<Agreement> {
    const agreement = await this.agreementOn(name, await this.hold(name));
    this.held = undefined;
    return agreement;
  }

  /** Opens the export and keeps it, so that INFO and the GO after it speak of the same one. */
  private async hold(name: string): Promise<ExportHandle> {
    if (this.held?.name === name) return this.held.handle;
    await this.letGo();
    const handle = await this.options.catalog.open(name, this.encrypted?.identity);
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

/** One reply for each context, and the end of the list. */
function answerContexts(
  number: number,
  names: readonly string[],
  idOf: (index: number) => number,
): HandshakeStep {
  const replies = names.map((name, index) =>
    encodeOptionReply(number, optionReply.metaContext, encodeMetaContext(idOf(index), name)),
  );
  return { replies: [...replies, encodeOptionReply(number, optionReply.ack)], next: 'go-on' };
}
