import { type ErrorCode, StorageError } from '../base/errors.ts';
import { BusyError } from './busy-error.ts';
import type { HttpAnswer } from './s3-http.ts';
import { childText, parseXml } from './s3-xml.ts';

/** What an S3 server said went wrong. */
export interface S3Fault {
  readonly status: number;
  /** S3's own code, such as `NoSuchKey`; empty when the answer was no error document. */
  readonly code: string;
  readonly message: string;
}

const maxDocumentBytes = 65_536;
const maxMessageLength = 200;
const defaultBusyMs = 1_000;
const maxBusyMs = 60_000;

/** Codes whose meaning the status alone does not tell. */
const codesByFault: Readonly<Record<string, ErrorCode>> = {
  NoSuchKey: 'not-found',
  NoSuchBucket: 'not-found',
  InvalidRange: 'corrupt',
  NotImplemented: 'unsupported',
  QuotaExceeded: 'no-space',
  // The request was damaged or cut on its way: once more may go better.
  BadDigest: 'store-unavailable',
  ConditionalRequestConflict: 'store-unavailable',
  IncompleteBody: 'store-unavailable',
  InternalError: 'store-unavailable',
  RequestTimeout: 'store-unavailable',
  XAmzContentSHA256Mismatch: 'store-unavailable',
};

const busyFaults = new Set(['SlowDown', 'Throttling', 'TooManyRequests', 'ServiceUnavailable']);

const advice: Readonly<Record<string, string>> = {
  NoSuchBucket: 'create the bucket or correct its name',
  AccessDenied: 'check the permissions of the credentials',
  InvalidAccessKeyId: 'check the credentials',
  SignatureDoesNotMatch: 'check the secret access key',
  RequestTimeTooSkewed: "set this machine's clock",
  ExpiredToken: 'renew the credentials',
};

/** The error document in an answer, if it is one. */
export function readFault(answer: HttpAnswer): S3Fault {
  const { status, body } = answer;
  const root =
    body.length > 0 && body.length <= maxDocumentBytes
      ? parseXml(new TextDecoder().decode(body))
      : undefined;
  if (root?.name !== 'Error') return { status, code: '', message: '' };
  return {
    status,
    code: forPeople(childText(root, 'Code') ?? ''),
    message: forPeople(childText(root, 'Message') ?? ''),
  };
}

function forPeople(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, maxMessageLength);
}

/** The error for an answer that is not what `doing` needed. */
export function faultError(doing: string, answer: HttpAnswer): StorageError {
  const fault = readFault(answer);
  const { status, code } = fault;
  const said = [code, fault.message].filter((text) => text !== '').join(': ');
  const hint = advice[code];
  const message =
    `${doing} failed with status ${status}` +
    `${said === '' ? '' : ` (${said.replace(/\.$/, '')})`}${hint === undefined ? '' : `; ${hint}`}.`;
  if (status === 503 || status === 429 || busyFaults.has(code)) {
    return new BusyError(message, retryAfterMs(answer));
  }
  const redirect = redirectError(doing, fault, answer);
  return redirect ?? new StorageError(codesByFault[code] ?? codeOfStatus(status, code), message);
}

function codeOfStatus(status: number, code: string): ErrorCode {
  if (status === 507) return 'no-space';
  if (status === 501 || status === 405) return 'unsupported';
  // Without an error document a proxy may have spoken, whose 404 says nothing about the object.
  if (status >= 400 && status < 500 && (code !== '' || status === 401 || status === 403)) {
    return 'store-denied';
  }
  return 'store-unavailable';
}

function redirectError(
  doing: string,
  { status, code }: S3Fault,
  { headers }: HttpAnswer,
): StorageError | undefined {
  const region = headers['x-amz-bucket-region'];
  const wrongRegion =
    status === 301 ||
    status === 308 ||
    code === 'AuthorizationHeaderMalformed' ||
    code === 'PermanentRedirect';
  if (!wrongRegion) return undefined;
  const known = typeof region === 'string' && /^[a-z0-9-]+$/.test(region);
  const hint = known ? `set the region to ${region}` : 'set the region and endpoint of the bucket';
  return new StorageError(
    'store-denied',
    `${doing} failed: the bucket is in another region; ${hint}.`,
  );
}

/** How long the server wants to be left alone, in seconds (RFC 9110, 10.2.3); S3 sends no dates. */
function retryAfterMs({ headers }: HttpAnswer): number {
  const seconds = Number(headers['retry-after']);
  if (!Number.isFinite(seconds) || seconds < 0) return defaultBusyMs;
  return Math.min(seconds * 1000, maxBusyMs);
}
