/** The stores that the interop tests run on. */
import { directoryStore, type S3Account, s3Store, type TestStore } from './daemon.ts';
import type { TemporaryDirectory } from './programs.ts';
import { missingRgw } from './rgw.ts';
import { makeBucket, sharedS3 } from './shared-s3.ts';

export interface StoreKind {
  readonly name: string;
  /** Why this store cannot be had here, or `undefined`. */
  readonly missing: string | undefined;
  /** An empty store; what `root` holds is removed by whoever made it. */
  readonly make: (root: TemporaryDirectory) => TestStore | Promise<TestStore>;
}

export const storeKinds: readonly StoreKind[] = [
  {
    name: 'a directory',
    missing: undefined,
    make: (root) => directoryStore(root.join('store')),
  },
  {
    name: 'S3',
    missing: missingRgw(),
    make: async () => bucketOn(await sharedS3()),
  },
];

/** An empty bucket on a server. */
export async function bucketOn(server: S3Account): Promise<TestStore> {
  const bucket = await makeBucket({}, server);
  await bucket.close();
  return s3Store(bucket.url, server);
}
