import { randomBytes } from 'node:crypto';
import { SymmetricKey } from '../symmetric-key.ts';
import type { VolumeKeys } from '../volume-keys.ts';

/** The keys of volumes, wrapped by one that is in memory alone. */
export function memoryVolumeKeys(key: Uint8Array = randomBytes(32)): VolumeKeys {
  const options = { name: 'memory', id: '6d656d6f7279', where: 'in memory', versions: [key] };
  const provider = new SymmetricKey(options);
  return {
    unwrapAll: (_volumeName, all) =>
      Promise.all(
        all.map(({ volumeId, generation, wrapped }) =>
          provider.unwrap(wrapped, { volumeId, generation }),
        ),
      ),
    wrapNew: async (_volumeName, secret, context) => ({
      generation: context.generation,
      wrapped: await provider.wrap(secret, context),
    }),
  };
}
