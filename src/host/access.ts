import type { BlockDevice, Changes, Done, Extent } from '../base/block-device.ts';
import { StorageError } from '../base/errors.ts';

/** What one client may do with which volumes. */
export interface AccessRule {
  /** As its certificate or its pre-shared key names it. */
  readonly client: string;
  readonly mayWrite: boolean;
  /** Names of volumes; `*` in one stands for any characters. */
  readonly volumes: readonly string[];
}

export const accessRuleHint =
  '"CLIENT:read:VOLUME" or "CLIENT:write:VOLUME,VOLUME", where * in a volume stands for any characters';

/** `undefined` when the text is no such rule. */
export function parseAccessRule(text: string): AccessRule | undefined {
  const [, client, verb, names] = /^([^:]+):(read|write):([^:]+)$/.exec(text) ?? [];
  if (client === undefined || names === undefined) return undefined;
  const volumes = names.split(',');
  if (!volumes.every((volume) => /^[A-Za-z0-9._*@-]+$/.test(volume))) return undefined;
  return { client, mayWrite: verb === 'write', volumes };
}

export function formatAccessRule({ client, mayWrite, volumes }: AccessRule): string {
  return `${client}:${mayWrite ? 'write' : 'read'}:${volumes.join(',')}`;
}

export type Access = 'none' | 'read' | 'write';

/** The most that any rule allows the client with the volume. */
export function accessOf(rules: readonly AccessRule[], client: string, volume: string): Access {
  const own = rules.filter((rule) => rule.client === client);
  const fitting = own.filter((rule) => rule.volumes.some((pattern) => matches(pattern, volume)));
  if (fitting.some(({ mayWrite }) => mayWrite)) return 'write';
  return fitting.length > 0 ? 'read' : 'none';
}

function matches(pattern: string, name: string): boolean {
  const parts = pattern.split('*').map((part) => part.replaceAll('.', '\\.'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}

/** Whoever asks, as the protocol proved it. */
interface Client {
  readonly name: string;
}

interface Offered {
  readonly name: string;
}

interface Opened extends Offered {
  readonly device: BlockDevice;
  close(): Promise<void>;
}

/** What volumes there are, for the client that asks. */
export interface Catalog<V extends Offered, O extends Opened> {
  list(client?: Client): Promise<readonly V[]>;
  open(name: string, client?: Client): Promise<O>;
}

/**
 * A catalog that shows and gives each client what the rules allow it. Who has proved nothing, on a listener that does not ask for proof, may do all: such a listener is
 * reached from this machine alone, unless the operator said otherwise.
 */
export function guardCatalog<V extends Offered, O extends Opened>(
  catalog: Catalog<V, O>,
  rules: readonly AccessRule[],
): Catalog<V, Omit<O, 'device'> & { readonly device: BlockDevice }> {
  const accessTo = (volume: string, client: Client | undefined): Access =>
    client === undefined ? 'write' : accessOf(rules, client.name, volume);
  return {
    list: async (client) => {
      const all = await catalog.list();
      return all.filter(({ name }) => accessTo(name, client) !== 'none');
    },
    open: async (name, client) => {
      // What the empty name means is known when it is open.
      if (name !== '' && accessTo(name, client) === 'none') throw refusal(name, client);
      const opened = await catalog.open(name);
      const access = accessTo(opened.name, client);
      if (access === 'write') return opened;
      if (access === 'read') return { ...opened, device: new ReadOnlyView(opened.device) };
      await opened.close();
      throw refusal(opened.name, client);
    },
  };
}

function refusal(volume: string, client: Client | undefined): StorageError {
  return new StorageError(
    'denied',
    `client "${client?.name ?? ''}" may not open volume "${volume}": tls.access of this server does not say so`,
  );
}

/** A device for a client that may not change it. */
class ReadOnlyView implements BlockDevice {
  readonly readOnly = true;
  private readonly device: BlockDevice;

  constructor(device: BlockDevice) {
    this.device = device;
  }

  get sizeBytes(): number {
    return this.device.sizeBytes;
  }

  get preferredBlockBytes(): number {
    return this.device.preferredBlockBytes;
  }

  read(offset: number, into: Uint8Array): Done {
    return this.device.read(offset, into);
  }

  write(): Done {
    throw notAllowed();
  }

  zero(): Done {
    throw notAllowed();
  }

  trim(): Done {
    throw notAllowed();
  }

  flush(): Done {
    return this.device.flush();
  }

  prefetch(offset: number, lengthBytes: number): Done {
    return this.device.prefetch(offset, lengthBytes);
  }

  status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> | Extent[] {
    return this.device.status(offset, lengthBytes, maxExtents);
  }

  async moments(): Promise<readonly string[]> {
    return (await this.device.moments?.()) ?? [];
  }

  async changesSince(moment: string): Promise<Changes | undefined> {
    return this.device.changesSince?.(moment);
  }
}

function notAllowed(): StorageError {
  return new StorageError('read-only', 'This client may read the volume and not write to it.');
}
