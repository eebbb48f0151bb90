import { randomBytes } from 'node:crypto';
import { systemClock } from '../../src/base/clock.ts';
import { systemRandom } from '../../src/base/random.ts';
import { openStore } from '../../src/store/open-store.ts';
import { createS3Store } from '../../src/store/s3-store.ts';
import { missingRgw } from '../support/rgw.ts';
import { makeBucket, sharedS3 } from '../support/shared-s3.ts';
import { describeStoreContract } from './contract.ts';

const missing = missingRgw();

describeStoreContract('s3 on Ceph RGW', {
  start: async () => {
    const { endpoint, accessKeyId, secretAccessKey } = await sharedS3();
    const options = {
      endpoint,
      bucket: `test-${randomBytes(6).toString('hex')}`,
      prefix: 'some/prefix',
      credentials: { accessKeyId, secretAccessKey },
    };
    const first = createS3Store(options);
    await first.ensureBucket();
    await first.ensureBucket();
    await first.close();
    return { open: async () => createS3Store(options) };
  },
  shared: true,
  missing,
});

describeStoreContract('s3 on Ceph RGW, opened by its URL with all wrappers', {
  start: async () => {
    const { endpoint, accessKeyId, secretAccessKey } = await sharedS3();
    const bucket = await makeBucket();
    await bucket.close();
    const environment = { AWS_ENDPOINT_URL_S3: endpoint, AWS_REGION: 'us-east-1' };
    const credentials = { accessKeyId, secretAccessKey };
    return {
      open: () =>
        openStore(`${bucket.url}/deep/down/`, {
          clock: systemClock,
          random: systemRandom,
          environment,
          s3: { credentials },
        }),
    };
  },
  shared: true,
  missing,
});
