import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HeldDevice, MemoryDevice } from '../../test/support/memory-device.ts';
import { TrackedDevice } from '../../test/support/tracked-device.ts';
import { memoryCatalog } from '../../test/support/memory-catalog.ts';
import { Conversation } from './testing/conversation.ts';
import { enter, entrances } from './testing/sessions.ts';
import type { Dialect } from './wire.ts';

/**
 * Whatever a client says, in whatever parts: the process stays, the server comes to rest, holds no
 * more than its limits allow, and lets go of everything when the client leaves. A failure prints
 * its seed and path; seeds that have failed are kept in `kept`.
 */
const runs = Number(process.env['FUZZ_RUNS'] ?? 300);
const kept: readonly number[] = [1, 20_261_120];

const limits = {
  maximumRequestBytes: 65_536,
  inFlightBytesPerConnection: 131_072,
  inFlightBytesTotal: 262_144,
  inFlightRequestsPerConnection: 8,
  optionBytes: 8192,
  statusExtents: 16,
};

const word = (digits: number, bytes: number): string =>
  digits.toString(16).padStart(bytes * 2, '0');

/** Numbers that sit on edges, or are anything. */
const edge = (maximum: number): fc.Arbitrary<number> =>
  fc
    .oneof(
      fc.constantFrom(0, 1, 2, 4, 4096, 65_535, 65_536, 65_537, 131_072, 0x7fff_ffff, 0xffff_ffff),
      fc.nat({ max: maximum }),
    )
    .map((value) => Math.min(value, maximum));

const noise = fc.uint8Array({ maxLength: 200 });
const noiseHex = noise.map((bytes) => Buffer.from(bytes).toString('hex'));

/** Queries of metadata contexts, after their count. */
const queries = fc
  .array(
    fc.constantFrom(
      ...['base:allocation', 'base:', 'qemu:', 'qemu:dirty-bitmap:', 'qemu:dirty-bitmap:monday'],
      ...['qemu:dirty-bitmap:none', 'x:y', ''],
    ),
    { maxLength: 20 },
  )
  .map((texts) => {
    const each = texts.map((text) => word(text.length, 4) + Buffer.from(text).toString('hex'));
    return word(texts.length, 4) + each.join('');
  });

/** A device that knows what was changed since a moment. */
function tracked(): TrackedDevice {
  const device = new TrackedDevice(65_536);
  device.keep('monday');
  device.put(4096, Buffer.alloc(4096, 1));
  return device;
}

/** An option that is nearly right: true magic mostly, data that may fit or not. */
const option = fc
  .record({
    magic: fc.oneof({ weight: 30, arbitrary: fc.constant('49484156454f5054') }, fc.constant('00')),
    number: fc.oneof(fc.nat({ max: 12 }), edge(0xffff_ffff)),
    name: fc.constantFrom('6469736b', '', '6e6f6e65', 'c328', '61'.repeat(4097)),
    tail: fc.oneof(
      fc.constantFrom('', '0000', '00010003', '00000000', '00000001'),
      queries,
      noiseHex,
    ),
    lie: fc.oneof({ weight: 10, arbitrary: fc.constant(0) }, fc.integer({ min: -8, max: 8 })),
  })
  .map(({ magic, number, name, tail, lie }) => {
    const data = number === 1 ? name : word(name.length / 2, 4) + name + tail;
    const dataBytes = Math.max(0, data.length / 2 + lie);
    return `${magic}${word(number, 4)}${word(dataBytes, 4)}${data}`;
  });

const request = (extended: boolean): fc.Arbitrary<string> =>
  fc
    .record({
      magic: fc.oneof(
        { weight: 40, arbitrary: fc.constant(extended ? '21e41c71' : '25609513') },
        fc.constant('25609514'),
      ),
      flags: fc.oneof(fc.constantFrom(0, 0, 1, 2, 4, 8, 16, 32, 33, 40), edge(0xffff)),
      command: fc.oneof({ weight: 10, arbitrary: fc.nat({ max: 8 }) }, edge(0xffff)),
      cookie: fc.nat(),
      offsetHigh: fc.oneof({ weight: 10, arbitrary: fc.constant(0) }, edge(0xffff_ffff)),
      offset: edge(0xffff_ffff),
      lengthHigh: fc.oneof({ weight: 10, arbitrary: fc.constant(0) }, edge(0xffff_ffff)),
      length: fc.oneof(fc.nat({ max: 300 }), edge(0xffff_ffff)),
      payload: fc.oneof(fc.constant(true), fc.boolean()),
    })
    .map((it) => {
      const length = (extended ? word(it.lengthHigh, 4) : '') + word(it.length, 4);
      const header = `${it.magic}${word(it.flags, 2)}${word(it.command, 2)}${word(it.cookie, 8)}`;
      const carries = extended ? (it.flags & 32) !== 0 : it.command === 1;
      const bytes = it.payload && carries ? Math.min(it.length, 70_000) : 0;
      return `${header}${word(it.offsetHigh, 4)}${word(it.offset, 4)}${length}${'6b'.repeat(bytes)}`;
    });

/** The parts in which bytes arrive: mostly large ones, sometimes single bytes. */
const cuts = fc.array(fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 100_000 })), { maxLength: 8 });

function pieces(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const found: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    found.push(bytes.subarray(at, at + size));
    at += size;
  }
  return [...found, bytes.subarray(at)];
}

/** Says it all, checks that the server rests within its limits, leaves, and checks what is left. */
async function attack(
  conversation: Conversation,
  said: string,
  sizes: readonly number[],
  openHandles: () => number,
  finishDevice: () => void = () => undefined,
): Promise<void> {
  for (const piece of pieces(Buffer.from(said, 'hex'), sizes)) {
    conversation.send(piece);
    await conversation.quiet();
    const counters = conversation.connection.status?.counters;
    expect(counters?.requestsInFlight ?? 0).toBeLessThanOrEqual(8);
    expect(conversation.budget.heldBytes).toBeLessThanOrEqual(limits.inFlightBytesTotal);
  }
  await conversation.answer();
  conversation.vanish();
  finishDevice();
  await conversation.releasedSoon();
  expect(conversation.budget.heldBytes).toBe(0);
  expect(conversation.clock.pending).toBe(0);
  expect(openHandles()).toBe(0);
}

/** Runs a property with a new seed, and with each seed that was kept; gives the report of a failure. */
async function failureOf<T>(property: fc.IAsyncProperty<T>): Promise<string | undefined> {
  const seeds = [undefined, ...kept];
  for (const seed of seeds) {
    const parameters = seed === undefined ? { numRuns: runs } : { numRuns: runs / 4, seed };
    const details = await fc.check(property, parameters);
    if (details.failed) return fc.defaultReportMessage(details);
  }
  return undefined;
}

const dialects: readonly Dialect[] = ['simple', 'structured', 'extended'];

describe('no input ends, hangs or fills the server', () => {
  it('noise from the first byte', async () => {
    const failure = await failureOf(
      fc.asyncProperty(noiseHex, cuts, async (said, sizes) => {
        const catalog = memoryCatalog({ disk: new MemoryDevice(65_536) });
        await attack(new Conversation({ catalog, limits }), said, sizes, catalog.openHandles);
      }),
    );
    expect(failure).toBeUndefined();
  }, 120_000);

  it('options that are nearly right', async () => {
    const failure = await failureOf(
      fc.asyncProperty(fc.array(option, { maxLength: 8 }), cuts, async (said, sizes) => {
        const catalog = memoryCatalog({ disk: tracked() });
        const conversation = new Conversation({ catalog, limits });
        await attack(conversation, `00000003${said.join('')}`, sizes, catalog.openHandles);
      }),
    );
    expect(failure).toBeUndefined();
  }, 120_000);

  it.each(dialects)(
    'requests that are nearly right, %s',
    async (dialect) => {
      const requests = fc.array(request(dialect === 'extended'), { maxLength: 12 });
      const failure = await failureOf(
        fc.asyncProperty(requests, noiseHex, cuts, async (said, tail, sizes) => {
          const catalog = memoryCatalog({ disk: new MemoryDevice(65_536) });
          const conversation = await enter(dialect, { catalog, limits });
          await attack(conversation, said.join('') + tail, sizes, catalog.openHandles);
        }),
      );
      expect(failure).toBeUndefined();
    },
    120_000,
  );

  it.each(dialects)(
    'requests to a device that does not finish, %s',
    async (dialect) => {
      const requests = fc.array(request(dialect === 'extended'), { maxLength: 20 });
      const failure = await failureOf(
        fc.asyncProperty(requests, cuts, async (said, sizes) => {
          const device = new HeldDevice(65_536);
          const catalog = memoryCatalog({ disk: device });
          const conversation = await enter(dialect, { catalog, limits });
          await attack(conversation, said.join(''), sizes, catalog.openHandles, () => {
            for (const call of device.waiting) call.go();
          });
        }),
      );
      expect(failure).toBeUndefined();
    },
    120_000,
  );

  it('does not grow: ten thousand clients leave as much memory as a thousand', async () => {
    const catalog = memoryCatalog({ disk: new MemoryDevice(65_536) });
    const visit = async (): Promise<void> => {
      const conversation = new Conversation({ catalog, limits });
      conversation.send(`${entrances.structured}25609513${'00'.repeat(20)}00001000`);
      await conversation.answer();
      conversation.vanish();
      await conversation.connection.released;
    };
    // Run in a new context, since this one was made before the flag was set.
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const settledBytes = async (visits: number): Promise<number> => {
      for (let count = 0; count < visits; count += 1) await visit();
      for (let round = 0; round < 4; round += 1) {
        collect();
        await new Promise((resolve) => setImmediate(resolve));
      }
      const { heapUsed, external } = process.memoryUsage();
      return heapUsed + external;
    };
    const before = await settledBytes(1_000);
    const after = await settledBytes(9_000);
    expect(after - before).toBeLessThan(4 * 1024 * 1024);
  }, 120_000);
});
