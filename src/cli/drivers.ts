import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import type { BlockServer } from '../host/daemon.ts';
import type { ListenAddress } from '../host/listen-address.ts';
import type { StoreStatistics, VolumeSource } from '../host/volume-source.ts';
import type { ExportCatalog } from '../nbd/export-catalog.ts';
import type { EncryptionWish } from '../volume/sealing-store.ts';
import type { FirstDrive } from './configuration/ini.ts';
import type { Settings } from './configuration/keys.ts';
import type { StoreConfiguration } from './configuration/resolve.ts';

/** What only the wiring can make: everything that touches a store, a disk or the network. */
export interface Drivers {
  readonly clock: Clock;
  readonly random: Random;
  openStore(request: StoreRequest): Promise<OpenStore>;
  /** The volumes of an opened store, which are attached with `settingsOf` their name. */
  createSource(request: SourceRequest): VolumeSource;
  createServer(catalog: ExportCatalog, settings: Settings, log: Log): BlockServer;
  /** What this program was started with: Node and the script, by their paths. */
  readonly command: readonly string[];
  readonly pid: number;
  /** Who runs it; `undefined` where the system has no such numbers. */
  readonly userId: number | undefined;
  /** All of standard input, as often as it is asked for. */
  readStandardInput(): Promise<Uint8Array>;
  /** Tells the service manager; false when that failed. */
  notify(assignments: readonly string[]): Promise<boolean>;
  writeFile(path: string, text: string): Promise<void>;
  /** Opens a connection to an NBD server. */
  connect(address: ListenAddress): Promise<Socket>;
  /** The local disk under a state directory, which need not be there. */
  openDisk(stateDirectory: string): LocalDisk;
}

export interface StoreRequest extends StoreConfiguration {
  /** Instead of what the AWS chain finds. */
  readonly credentials: FirstDrive['credentials'];
  /** Whether a bucket that does not exist is to be made. */
  readonly createBucket: boolean;
  readonly log: Log;
}

export interface OpenStore {
  readonly store: ObjectStore;
  /** How volumes that are made in it are encrypted; `undefined`: they are not. */
  readonly encryption?: EncryptionWish | undefined;
  readonly statistics: () => StoreStatistics;
}

export interface SourceRequest {
  readonly opened: OpenStore;
  /** The server of an S3 store, where one was named. */
  readonly endpoint: string | undefined;
  /** Holds a directory for each volume: journal and cache. */
  readonly stateDirectory: string;
  readonly settingsOf: (volumeName: string) => Settings;
  /** Memory for reading snapshots, which all sources of a state directory share. */
  readonly snapshotCacheBytes: number;
  readonly log: Log;
}
