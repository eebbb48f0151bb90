import { isAbsolute, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

export const storeUrlHint =
  'store URLs such as "s3://bucket/prefix", "file:///directory" or a path (never with a password)';

/**
 * A store as people name it, as the URL that is used from then on. A bare path becomes a `file:`
 * URL. `undefined` when it is neither, or holds a user name or password: a URL is seen by everyone.
 */
export function normalizeStoreUrl(text: string, baseDirectory: string): string | undefined {
  if (text === '' || text.startsWith('~') || text.includes('\0')) return undefined;
  if (!/^[a-z][a-z0-9+.-]*:/i.test(text)) {
    return pathToFileURL(isAbsolute(text) ? text : resolve(baseDirectory, text)).href;
  }
  const match = /^(file|s3):\/\/([^/?#]*)(\/[^?#]*)?$/.exec(text);
  if (match === null) return undefined;
  const [, scheme, authority = '', path = ''] = match;
  if (scheme === 'file') return authority === '' && path.length > 1 ? text : undefined;
  return /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(authority) ? text.replace(/\/+$/, '') : undefined;
}
