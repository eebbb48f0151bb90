import { assert } from '../base/assert.ts';

/** Everything that one client, or all of them, may make the server hold. */
export interface NbdLimits {
  /** Largest payload of a read or write; clients are told. */
  readonly maximumRequestBytes: number;
  /** Payload bytes of unanswered requests of one connection; beyond it, reading from it stops. */
  readonly inFlightBytesPerConnection: number;
  /** The same over all connections, replies that clients have not taken yet included. */
  readonly inFlightBytesTotal: number;
  /** Unanswered requests of one connection. */
  readonly inFlightRequestsPerConnection: number;
  /** Replies that one client has not taken yet; beyond it, its requests wait. */
  readonly unsentReplyBytesPerConnection: number;
  /** A client that takes none of its replies for this long is cut off. */
  readonly unsentReplyMs: number;
  /** From the connection to the start of transmission. */
  readonly handshakeMs: number;
  /** How long a closed session may take to go away before its socket is destroyed. */
  readonly lingerMs: number;
  readonly connections: number;
  /** Data of one handshake option. */
  readonly optionBytes: number;
  /** Metadata contexts that one client may select. */
  readonly metaContexts: number;
  /** Extents in one block status reply, of each context. */
  readonly statusExtents: number;
}

export const defaultNbdLimits: NbdLimits = {
  maximumRequestBytes: 32 * 1024 * 1024,
  inFlightBytesPerConnection: 64 * 1024 * 1024,
  inFlightBytesTotal: 256 * 1024 * 1024,
  inFlightRequestsPerConnection: 256,
  unsentReplyBytesPerConnection: 4 * 1024 * 1024,
  unsentReplyMs: 120_000,
  handshakeMs: 30_000,
  lingerMs: 2_000,
  connections: 1_024,
  optionBytes: 256 * 1024,
  metaContexts: 16,
  statusExtents: 16_384,
};

export function nbdLimits(chosen: Partial<NbdLimits> = {}): NbdLimits {
  const limits = { ...defaultNbdLimits, ...chosen };
  for (const [name, value] of Object.entries(limits)) {
    assert(
      Number.isSafeInteger(value) && value > 0,
      `limit ${name} must be a whole number above 0`,
    );
  }
  assert(
    limits.maximumRequestBytes <= limits.inFlightBytesPerConnection &&
      limits.inFlightBytesPerConnection <= limits.inFlightBytesTotal,
    'a connection must be able to hold the largest request, and all together one connection',
  );
  return limits;
}
