import { StorageError } from '../base/errors.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import { encodableSnapshot } from '../format/snapshot.ts';
import type { SnapshotWish } from '../volume/snapshot-changes.ts';
import type { TakeOver } from '../volume/take-over.ts';
import type { ControlRequest, ControlRoutes } from './control-socket.ts';
import type { DaemonStatus } from './status.ts';
import { readOnlyError } from './resizing.ts';
import type { VolumeCatalog } from './volume-catalog.ts';

/** What `status`, `volume attach`, `detach`, `scrub`, `compact`, `flatten`, `resize`, `clone`, `rollback` and `snapshot` ask of a daemon. */
export function controlRoutes(status: () => DaemonStatus, catalog: VolumeCatalog): ControlRoutes {
  return {
    'GET /status': status,
    'POST /attach': async (request) => {
      const volume = nameIn(request);
      await catalog.attach(volume, takeOverIn(request));
      return { attached: volume };
    },
    // Answered when the scrub is done; `status` tells how far it is.
    'POST /scrub': async (request) => {
      const name = nameIn(request);
      const attached = catalog.attached().find((volume) => volume.name === name);
      if (attached?.volume.scrub === undefined) {
        const message = `volume "${name}" is not attached here for writing: "elasticdrive volume check ${name} --read-data" reads it from anywhere`;
        throw new StorageError('not-found', message);
      }
      return attached.volume.scrub();
    },
    // Answered when a pass has ended; `status` tells what there is to know meanwhile.
    'POST /compact': async (request) => {
      const name = nameIn(request);
      await catalog.attach(name, 'never');
      const attached = catalog.attached().find((volume) => volume.name === name);
      if (attached?.volume.compact === undefined) throw readOnlyError(name);
      return attached.volume.compact({ graceMs: graceIn(request) });
    },
    // Answered when the volume needs nobody any more; `status` tells how far it is.
    'POST /flatten': async (request) => {
      const name = nameIn(request);
      await catalog.attach(name, 'never');
      const attached = catalog.attached().find((volume) => volume.name === name);
      if (attached?.volume.flatten === undefined) throw readOnlyError(name);
      return attached.volume.flatten({ mayForget: request.query.get('forget') === 'true' });
    },
    'POST /resize': async (request) => {
      const name = nameIn(request);
      const shrinks = request.query.get('shrink') === 'true';
      const resized = await catalog.resize(name, { sizeBytes: sizeIn(request), shrinks });
      return { resized: name, ...resized };
    },
    'POST /snapshot': async (request) => {
      const waits = request.query.get('wait') !== 'false';
      return encodableSnapshot(await catalog.snapshot(nameIn(request), wishIn(request), waits));
    },
    'POST /rollback': async (request) => {
      const snapshot = request.query.get('snapshot');
      if (snapshot === null) throw new StorageError('usage', 'name it: ?snapshot=NAME');
      const { to, before } = await catalog.rollBack(nameIn(request), snapshot);
      return { to: encodableSnapshot(to), before: encodableSnapshot(before) };
    },
    'POST /detach': async (request) => {
      const volume = nameIn(request);
      return { detached: volume, wasAttached: await catalog.detach(volume) };
    },
  };
}

function nameIn({ query }: ControlRequest): string {
  const name = query.get('volume');
  if (name === null) throw new StorageError('usage', 'name the volume: ?volume=NAME');
  return name;
}

function graceIn({ query }: ControlRequest): number | undefined {
  const grace = query.get('grace');
  if (grace === null) return undefined;
  if (!/^\d{1,12}$/.test(grace)) throw new StorageError('usage', 'say the grace period in ms');
  return Number(grace);
}

function sizeIn({ query }: ControlRequest): number {
  const size = query.get('size') ?? '';
  if (!/^\d{1,15}$/.test(size)) throw new StorageError('usage', 'say the size: ?size=BYTES');
  return Number(size);
}

function wishIn({ query }: ControlRequest): SnapshotWish {
  const wish = new TextEncoder().encode(query.get('wish') ?? '');
  const fields = new Fields(parseJson(wish, 'snapshot'), 'snapshot');
  const said = {
    description: fields.text('description'),
    tags: fields.texts('tags'),
    ...momentIn(fields),
  };
  return fields.has('name') ? { ...said, name: fields.text('name') } : said;
}

function momentIn(fields: Fields): Pick<SnapshotWish, 'asOf'> {
  const asOf = fields.optional('asOf', (value) => new Fields(value, 'asOf'), null);
  if (asOf === undefined) return {};
  return { asOf: { timeMs: asOf.count('timeMs'), flushed: asOf.flag('flushed') } };
}

function takeOverIn({ query }: ControlRequest): TakeOver {
  const wanted = query.get('take_over') ?? 'never';
  const known = (['never', 'when-dead', 'now'] as const).find((each) => each === wanted);
  if (known === undefined) throw new StorageError('usage', `"${wanted}" is no way to take over`);
  return known;
}
