import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SlotIndex } from './slot-index.ts';

test('finds what a Map finds, whatever was added and removed before', () => {
  const key = fc.oneof(
    fc.nat(40),
    fc.nat(40).map((low) => 2 ** 32 * low + 7),
    fc.nat(2 ** 43),
  );
  const step = fc.record({ key, remove: fc.boolean() });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.array(step, { maxLength: 200 }),
      (slots, steps) => {
        const index = new SlotIndex(slots);
        const model = new Map<number, number>();
        const free = Array.from({ length: slots }, (_, slot) => slot);
        for (const { key: wanted, remove } of steps) {
          const slot = model.get(wanted);
          if (slot !== undefined && remove) {
            index.remove(slot);
            model.delete(wanted);
            free.push(slot);
          } else if (slot === undefined && free.length > 0) {
            const next = free.pop() as number;
            index.add(wanted, next);
            model.set(wanted, next);
          }
          for (const { key: any } of steps) expect(index.find(any)).toBe(model.get(any) ?? -1);
        }
      },
    ),
  );
});

test('keys that follow each other are found in a few steps', () => {
  const index = new SlotIndex(100_000);
  for (let slot = 0; slot < 100_000; slot += 1) index.add(2 ** 40 + slot, slot);
  for (let slot = 0; slot < 100_000; slot += 1) expect(index.find(2 ** 40 + slot)).toBe(slot);
});
