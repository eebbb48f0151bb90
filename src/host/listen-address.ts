import { isAbsolute } from 'node:path';

/**
 * Where the daemon listens, as people write it: `nbd://127.0.0.1:10809`, `nbd://[::1]`,
 * `nbd+unix:///run/elasticdrive.sock`.
 */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export const listenHint =
  'addresses such as "nbd://127.0.0.1:10809" or "nbd+unix:///path/of/socket"';

/** NBD's port at IANA. */
const defaultPort = 10_809;
/** Longest path of a Unix socket on Linux: `sun_path` less its terminating zero. */
export const socketPathBytes = 107;

/** `undefined` when the text is no such address. Port 0 lets the kernel choose. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  if (/[?#@\s]/.test(text)) return undefined;
  const unix = /^nbd\+unix:\/\/(\/.+)$/.exec(text)?.[1];
  if (unix !== undefined) return unixAddress(unix);
  const match = /^nbd:\/\/(\[[0-9a-fA-F:.]+\]|[^:/[\]]+)(?::(\d{1,5}))?\/?$/.exec(text);
  if (match?.[1] === undefined) return undefined;
  const port = match[2] === undefined ? defaultPort : Number(match[2]);
  const host = match[1].replaceAll(/[[\]]/g, '');
  return port <= 65_535 ? { kind: 'tcp', host, port } : undefined;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function unixAddress(encoded: string): ListenAddress | undefined {
  const path = decoded(encoded);
  if (path === undefined) return undefined;
  const fits = Buffer.byteLength(path) <= socketPathBytes && !path.includes('\0');
  return isAbsolute(path) && fits ? { kind: 'unix', path } : undefined;
}

/**
 * The NBD URI of an export at the address; the empty name is the default export. `nbds` tells the
 * client to use TLS.
 */
export function exportUri(
  address: ListenAddress,
  exportName: string,
  scheme: 'nbd' | 'nbds' = 'nbd',
): string {
  // A path may have it as it is, and `VOLUME@SNAPSHOT` stays readable.
  const name = encodeURIComponent(exportName).replaceAll('%40', '@');
  if (address.kind === 'unix') {
    return `${scheme}+unix:///${name}?socket=${encodePath(address.path)}`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${scheme}://${host}:${address.port}${name === '' ? '' : `/${name}`}`;
}

export interface ExportPlace {
  readonly address: ListenAddress;
  readonly exportName: string;
}

export const exportUriHint = '"nbd://host:port/name" or "nbd+unix:///name?socket=/path"';

/** Reads what `exportUri` writes; `undefined` when the text is no such URI. */
export function parseExportUri(text: string): ExportPlace | undefined {
  const [, scheme, authority, path = '', query] =
    /^(nbd|nbd\+unix):\/\/([^/?#@]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text) ?? [];
  if (scheme === undefined || authority === undefined) return undefined;
  const exportName = decoded(path);
  const socket = /^socket=([^&]+)$/.exec(query ?? '')?.[1];
  const listen =
    scheme === 'nbd' && query === undefined
      ? `nbd://${authority}`
      : scheme === 'nbd+unix' && authority === '' && socket !== undefined
        ? `nbd+unix://${socket}`
        : '';
  const address = parseListenAddress(listen);
  return address === undefined || exportName === undefined ? undefined : { address, exportName };
}

/** The text that `parseListenAddress` reads back. */
export function formatListenAddress(address: ListenAddress): string {
  return address.kind === 'unix'
    ? `nbd+unix://${encodePath(address.path)}`
    : exportUri(address, '');
}

function encodePath(path: string): string {
  return encodeURIComponent(path).replaceAll('%2F', '/');
}

/** Whether only this machine reaches the address. */
export function isLocal(address: ListenAddress): boolean {
  return (
    address.kind === 'unix' ||
    address.host === 'localhost' ||
    address.host === '::1' ||
    /^127(\.\d+){3}$/.test(address.host)
  );
}
