import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SerialPosition } from '../format/names.ts';
import { createMemoryStore } from '../store/memory-store.ts';
import { placementKey } from '../format/names.ts';
import { encodePlacement } from '../format/placement-object.ts';
import { PlacementTable } from './placement-table.ts';

const position = fc.record({
  serial: fc.integer({ min: 1, max: 5 }),
  epoch: fc.integer({ min: 1, max: 3 }),
});
const changes = fc.array(
  fc.tuple(fc.integer({ min: 1, max: 30 }), fc.option(position, { nil: undefined })),
  { maxLength: 20 },
);

test('a placement says of every segment what a plain map says, stored and read back too', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(changes, { maxLength: 6 }), async (batches) => {
      const model = new Map<number, SerialPosition>();
      let table = PlacementTable.empty;
      for (const batch of batches) {
        const moved = new Map(batch);
        for (const [segment, at] of moved) {
          if (at === undefined) model.delete(segment);
          else model.set(segment, at);
        }
        table = table.with(moved);
      }
      const volumeId = 'ab'.repeat(16);
      const at = { serial: 1, epoch: 1 };
      const store = createMemoryStore();
      await store.put(placementKey(volumeId, at), [encodePlacement(volumeId, at, table.rows)]);
      const readBack = await PlacementTable.load(store, volumeId, at);
      for (const each of [table, readBack]) {
        expect(each.size).toBe(model.size);
        for (let segment = 0; segment < 32; segment += 1)
          expect(each.find(segment)).toEqual(model.get(segment));
        for (const named of model.values()) expect(each.names(named)).toBe(true);
        expect(each.names({ serial: 6, epoch: 1 })).toBe(false);
      }
    }),
  );
});
