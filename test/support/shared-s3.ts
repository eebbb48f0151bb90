/** The S3 server that all test files of a run share; see global-setup.ts. */
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { createS3Store, type S3Store, type S3StoreOptions } from '../../src/store/s3-store.ts';

export interface SharedS3 {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** Starts the server unless another test already has. */
export async function sharedS3(): Promise<SharedS3> {
  const response = await fetch(inject('sharedServersUrl'));
  const answer = (await response.json()) as SharedS3 | { missing: string } | { failure: string };
  if ('endpoint' in answer) return answer;
  throw new Error('failure' in answer ? answer.failure : answer.missing);
}

/** An empty bucket of the test's own, on the shared server unless another is given. */
export async function makeBucket(
  options: Partial<S3StoreOptions> = {},
  server?: SharedS3,
): Promise<S3Store> {
  const { endpoint, accessKeyId, secretAccessKey } = server ?? (await sharedS3());
  const store = createS3Store({
    endpoint,
    bucket: `test-${randomBytes(6).toString('hex')}`,
    credentials: { accessKeyId, secretAccessKey },
    ...options,
  });
  await store.ensureBucket();
  return store;
}
