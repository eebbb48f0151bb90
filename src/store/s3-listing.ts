import type { ListedKey } from '../base/object-store.ts';
import { childText, parseXml, type XmlElement } from './s3-xml.ts';

export interface S3Listing {
  readonly keys: ListedKey[];
  /** The token of the next page, or `undefined` on the last one. */
  readonly next: string | undefined;
}

/** A page of ListObjectsV2 with `encoding-type=url`, or `undefined` when this is not a whole one. */
export function parseListing(body: Uint8Array): S3Listing | undefined {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name !== 'ListBucketResult') return undefined;
  const encoded = childText(root, 'EncodingType') === 'url';
  const keys: ListedKey[] = [];
  for (const child of root.children) {
    if (child.name !== 'Contents') continue;
    const listed = parseContents(child, encoded);
    if (listed === undefined) return undefined;
    keys.push(listed);
  }
  const truncated = childText(root, 'IsTruncated');
  const next = childText(root, 'NextContinuationToken');
  if (truncated === 'false') return { keys, next: undefined };
  return truncated === 'true' && next !== undefined ? { keys, next } : undefined;
}

function parseContents(element: XmlElement, encoded: boolean): ListedKey | undefined {
  const key = childText(element, 'Key');
  const size = childText(element, 'Size');
  if (key === undefined || size === undefined || !/^\d{1,15}$/.test(size)) return undefined;
  try {
    return {
      key: encoded ? decodeURIComponent(key.replaceAll('+', ' ')) : key,
      sizeBytes: Number(size),
    };
  } catch {
    return undefined;
  }
}
