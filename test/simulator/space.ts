import type { World } from './world.ts';
import type { Session } from './session.ts';

/** Gives back all space that it can; whether it came to its end. */
function compact(session: Session): Promise<boolean> {
  return session.attempt('compact', 0, () => session.volume.compact({ graceMs: 0 }));
}

/** As a client's request: what comes of it is nobody's concern. */
export async function requestSpace(session: Session): Promise<void> {
  await compact(session);
}

/** After a pass nothing is left that nothing needs, and what is needed still is. */
export async function requireNoGarbage(
  world: World,
  session: Session,
  before: readonly Uint8Array[],
): Promise<void> {
  // The first may join a pass of the volume's own, which gives others time.
  for (let pass = 0; pass < 2; pass += 1) {
    if (!(await compact(session))) throw new Error('space was not given back at the end');
  }
  const found = await session.readAll();
  const isSame = found?.every(
    (bytes, block) => Buffer.compare(bytes, before[block] ?? bytes) === 0,
  );
  if (isSame !== true) throw new Error('other bytes are found after compaction than before');
  // A past may have come to its end behind the back of the last pass: the next one sees that.
  for (let more = 0; (await garbageOf(world)) > 0; more += 1) {
    if (more === 2)
      throw new Error(`${await garbageOf(world)} objects are left that nothing needs`);
    await compact(session);
  }
}

async function garbageOf(world: World): Promise<number> {
  const { orphaned, superseded } = await world.standings();
  return orphaned.objects + superseded.objects;
}
