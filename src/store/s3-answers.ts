import type { HttpAnswer } from './s3-http.ts';

/** The ETag without its quotes, or `undefined` when there is none that can identify bytes. */
export function etagOf({ headers }: HttpAnswer): string | undefined {
  const etag = headers.etag;
  return etag === undefined ? undefined : /^"?([^"]+)"?$/.exec(etag)?.[1];
}

/**
 * The object in a successful answer to GET, or what is wrong with the answer. An error document that
 * comes with status 200 from a gateway between us and the store has no ETag or is of a document's
 * type, and a body of unannounced length may end early unnoticed: neither is ever data.
 */
export function checkedObject(answer: HttpAnswer): { body: Uint8Array; etag: string } | string {
  const etag = etagOf(answer);
  if (etag === undefined) return 'an answer without an ETag';
  if (!answer.lengthKnown) return 'a body of unknown length';
  const encoding = answer.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') return 'an encoded body';
  const type = answer.headers['content-type'] ?? '';
  if (/^(?:application\/xml|text\/xml|text\/html)\b/i.test(type))
    return 'a document, not an object';
  return { body: answer.body, etag };
}

export interface ContentRange {
  readonly from: number;
  readonly end: number;
  readonly objectBytes: number;
}

/** The Content-Range header (RFC 9110, 14.4); `end` is the first byte after the range. */
export function parseContentRange({ headers }: HttpAnswer): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(headers['content-range'] ?? '');
  if (match === null) return undefined;
  return { from: Number(match[1]), end: Number(match[2]) + 1, objectBytes: Number(match[3]) };
}
