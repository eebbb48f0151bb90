import type { BlockDevice } from '../../src/base/block-device.ts';
import { StorageError } from '../../src/base/errors.ts';
import type { ExportCatalog } from '../../src/nbd/export-catalog.ts';

/** A catalog of given devices that counts its open handles; the first is the default export. */
export function memoryCatalog(
  devices: Readonly<Record<string, BlockDevice>>,
  descriptions: Readonly<Record<string, string>> = {},
): ExportCatalog & { readonly openHandles: () => number } {
  let openHandles = 0;
  const described = (name: string) => {
    const description = descriptions[name];
    return description === undefined ? { name } : { name, description };
  };
  return {
    openHandles: () => openHandles,
    list: async () => Object.keys(devices).map(described),
    open: async (asked) => {
      const name = asked === '' ? Object.keys(devices)[0] : asked;
      const device = name === undefined ? undefined : devices[name];
      if (name === undefined || device === undefined) {
        throw new StorageError('not-found', `there is no export ${asked}; list the exports`);
      }
      openHandles += 1;
      return {
        ...described(name),
        device,
        close: async () => {
          openHandles -= 1;
        },
      };
    },
  };
}
