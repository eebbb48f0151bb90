import type { BlockDevice } from '../base/block-device.ts';
import type { ClientIdentity } from './tls.ts';

export interface ExportDescription {
  readonly name: string;
  /** For people; shown by clients that list the exports. */
  readonly description?: string;
}

/** A device while a client uses it. */
export interface ExportHandle extends ExportDescription {
  /**
   * All handles of one name must be of one device, or share its cache: clients are told that a
   * flush on one connection covers the others (NBD_FLAG_CAN_MULTI_CONN).
   */
  readonly device: BlockDevice;
  /** Called once, after the last request has settled. */
  close(): Promise<void>;
}

/** What the server can serve; the one door between the protocol and whatever holds the devices. */
export interface ExportCatalog {
  /** `client`: who asks, where that was proved. */
  list(client?: ClientIdentity): Promise<readonly ExportDescription[]>;
  /**
   * The empty name is the default export. Fails with a `StorageError`: `not-found`, `held`, ...; the
   * client is shown its message.
   */
  open(name: string, client?: ClientIdentity): Promise<ExportHandle>;
}
