import type { Duplex } from 'node:stream';
import { createServer, type TlsOptions, type TLSSocket } from 'node:tls';

/**
 * How a listener answers STARTTLS. `unsupported`: it does not know it; `forbidden`: it was told not to
 * offer it (both are the document's NOTLS mode); `allowed`: as OPTIONALTLS; `required`: as FORCEDTLS.
 */
export type TlsPolicy = 'unsupported' | 'forbidden' | 'allowed' | 'required';

/** Who a client has proved to be. */
export interface ClientIdentity {
  /** The common name of its certificate, or the name of its pre-shared key. */
  readonly name: string;
}

export interface SecuredStream {
  readonly stream: Duplex;
  /** `undefined`: clients need not prove who they are. */
  readonly identity: ClientIdentity | undefined;
}

/** The secret side of TLS; PEM, as files hold it. */
export interface TlsCredentials {
  readonly certificate?: string;
  readonly key?: string;
  /** With it, a client must show a certificate that this authority has signed. */
  readonly clientAuthority?: string;
  /** Keys by the name that a client gives with them. Used where there is no certificate. */
  readonly preSharedKeys?: ReadonlyMap<string, Uint8Array>;
}

/** Turns a client's stream into an encrypted one, once STARTTLS was agreed to. */
export interface TlsUpgrade {
  /** Rejects when TLS cannot be agreed on; the stream is then of no more use. */
  secure(stream: Duplex): Promise<SecuredStream>;
}

/** Certificates and keys are asked for at each connection, so that they can change meanwhile. */
export function createTlsUpgrade(credentials: () => Promise<TlsCredentials>): TlsUpgrade {
  return { secure: async (stream) => secureStream(stream, await credentials()) };
}

function secureStream(stream: Duplex, credentials: TlsCredentials): Promise<SecuredStream> {
  let keyName: string | undefined;
  // A server that never listens: it does for one stream what it would for an accepted one, the
  // verification of the client's certificate included.
  const server = createServer(
    optionsOf(credentials, (name) => {
      keyName = name;
    }),
  );
  const secured = Promise.withResolvers<SecuredStream>();
  const close = (): void => secured.reject(new Error('the client left during the TLS handshake'));
  stream.once('close', close);
  server.once('secureConnection', (socket) => {
    stream.off('close', close);
    const name = keyName ?? commonName(socket);
    secured.resolve({ stream: socket, identity: name === undefined ? undefined : { name } });
  });
  server.once('tlsClientError', (error) => secured.reject(error));
  server.emit('connection', stream);
  return secured.promise;
}

function optionsOf(credentials: TlsCredentials, onKey: (name: string) => void): TlsOptions {
  const { certificate, key, clientAuthority, preSharedKeys } = credentials;
  const common: TlsOptions = { minVersion: 'TLSv1.2' };
  if (preSharedKeys !== undefined) {
    return {
      ...common,
      // For TLS 1.2, whose suites say how the server proves itself; those of 1.3 do not.
      ciphers: 'PSK',
      pskCallback: (_socket, name) => {
        const found = preSharedKeys.get(name);
        if (found === undefined) return null;
        onKey(name);
        return found;
      },
    };
  }
  return {
    ...common,
    ...(certificate === undefined ? {} : { cert: certificate }),
    ...(key === undefined ? {} : { key }),
    ...(clientAuthority === undefined ? {} : { ca: clientAuthority }),
    requestCert: clientAuthority !== undefined,
    rejectUnauthorized: clientAuthority !== undefined,
  };
}

/** The one common name of the client's certificate, which was verified. */
function commonName(socket: TLSSocket): string | undefined {
  const { subject } = socket.getPeerCertificate();
  // The types say that there is one; without a certificate there is none.
  const name = (subject as { CN?: string | string[] } | undefined)?.CN;
  return typeof name === 'string' ? name : undefined;
}
