import { randomBytes } from 'node:crypto';
import { describe } from 'vitest';
import { createS3Store } from '../../src/store/s3-store.ts';
import { missingRgw } from '../support/rgw.ts';
import { sharedS3 } from '../support/shared-s3.ts';
import { describeStoreContract } from './contract.ts';

const missing = missingRgw();

describe.skipIf(missing !== undefined)(`S3 on Ceph RGW ${missing ?? ''}`, () => {
  describeStoreContract('s3', async () => {
    const { endpoint, accessKeyId, secretAccessKey } = await sharedS3();
    const options = {
      endpoint,
      bucket: `test-${randomBytes(6).toString('hex')}`,
      prefix: 'some/prefix',
      credentials: { accessKeyId, secretAccessKey },
    };
    const first = createS3Store(options);
    await first.ensureBucket();
    await first.close();
    return { open: async () => createS3Store(options), shared: true };
  });
});
