import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFileStore } from '../../src/store/file-store.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { describeStoreContract } from './contract.ts';

describeStoreContract('memory', async () => ({
  open: async () => createMemoryStore(),
  shared: false,
}));

describeStoreContract('file', async () => {
  const root = await mkdtemp(join(tmpdir(), 'elasticdrive-store-'));
  return {
    open: async () => createFileStore({ directory: join(root, 'made/by/the/store') }),
    dispose: () => rm(root, { recursive: true }),
    shared: true,
  };
});
