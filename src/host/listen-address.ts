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

function unixAddress(encoded: string): ListenAddress | undefined {
  let path: string;
  try {
    path = decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
  const fits = Buffer.byteLength(path) <= socketPathBytes && !path.includes('\0');
  return isAbsolute(path) && fits ? { kind: 'unix', path } : undefined;
}

/** The NBD URI of an export at the address; the empty name is the default export. */
export function exportUri(address: ListenAddress, exportName: string): string {
  const name = encodeURIComponent(exportName);
  if (address.kind === 'unix') {
    return `nbd+unix:///${name}?socket=${encodePath(address.path)}`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port}${name === '' ? '' : `/${name}`}`;
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
