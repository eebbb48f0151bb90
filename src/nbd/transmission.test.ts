import { describe, expect, it } from 'vitest';
import { FailingDevice, MemoryDevice } from '../../test/support/memory-device.ts';
import type { BlockDevice } from '../base/block-device.ts';
import { StorageError } from '../base/errors.ts';
import { hex } from './testing/conversation.ts';
import { withoutChunkMessages } from './testing/replies.ts';
import { enter } from './testing/sessions.ts';
import type { Dialect } from './wire.ts';

/** Requests and what they are answered, byte for byte, in sessions that have just been entered. */
interface Case {
  readonly title: string;
  readonly dialect: Dialect;
  readonly client: string;
  /** `err` lines leave out the message for people; see `withoutChunkMessages`. */
  readonly server: string;
  readonly state?: 'ended' | 'cut';
  readonly device?: () => BlockDevice;
  readonly maximumRequestBytes?: number;
}

const c1 = '0102030405060708';
const c2 = '1112131415161718';
const c3 = '2122232425262728';
const at0 = '0000000000000000';
const ok = (cookie: string): string => `67446698 00000000 ${cookie}`;
const fail = (cookie: string, error: string): string => `67446698 000000${error} ${cookie}`;
/** A structured error chunk, without its message. */
const error = (cookie: string, number: string): string =>
  `668e33ef 0001 8001 ${cookie} 000000${number}`;
/** An extended error chunk to a request at offset 0, without its message. */
const extendedError = (cookie: string, number: string): string =>
  `6e8a278c 0001 8001 ${cookie} ${at0} 000000${number}`;
const extendedOk = (cookie: string, offset = at0): string =>
  `6e8a278c 0001 0000 ${cookie} ${offset} ${at0}`;

const eperm = '01';
const eio = '05';
const einval = '16';
const enospc = '1c';
const eoverflow = '4b';
const enotsup = '5f';

/** 64 KiB: 'ABCD...' in its first 4 KiB block, holes after it. */
function lettered(): MemoryDevice {
  const device = new MemoryDevice(65_536);
  device.put(0, Buffer.from('ABCDEFGH'));
  return device;
}

/** 128 KiB: data in 0..32 Ki and 96 Ki..128 Ki, zeroes that are allocated and a hole between. */
function striped(): MemoryDevice {
  const device = new MemoryDevice(131_072);
  device.put(0, Buffer.alloc(32_768, 0x61));
  device.putZeroes(32_768, 32_768);
  device.put(98_304, Buffer.alloc(32_768, 0x62));
  return device;
}

const readOnly = (): BlockDevice => new MemoryDevice(65_536, true);

const cases: readonly Case[] = [
  {
    title: 'READ is answered with a simple reply and the data',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} 0000000000000002 00000003`,
    server: `${ok(c1)} 434445`,
  },
  {
    title: 'WRITE is read back',
    dialect: 'simple',
    client: `25609513 0000 0001 ${c1} 0000000000000001 00000002 7879
      25609513 0000 0000 ${c2} ${at0} 00000004`,
    server: `${ok(c1)} ${ok(c2)} 41787944`,
  },
  {
    title: 'FUA is accepted on every command',
    dialect: 'structured',
    client: `25609513 0001 0000 ${c1} ${at0} 00000001
      25609513 0001 0001 ${c1} ${at0} 00000001 41
      25609513 0001 0003 ${c1} ${at0} 00000000
      25609513 0001 0004 ${c1} 0000000000001000 00001000
      25609513 0001 0005 ${c1} ${at0} 00001000
      25609513 0001 0006 ${c1} 0000000000001000 00001000
      25609513 0001 0007 ${c1} ${at0} 00001000`,
    server: `668e33ef 0001 0001 ${c1} 00000009 ${at0} 41 ${ok(c1).repeat(5)}
      668e33ef 0001 0005 ${c1} 0000000c 00000001 00001000 00000000`,
  },
  {
    title: 'TRIM, CACHE and FLUSH are answered without data',
    dialect: 'simple',
    client: `25609513 0000 0004 ${c1} ${at0} 00001000
      25609513 0000 0005 ${c2} ${at0} 00001000
      25609513 0000 0003 ${c3} ${at0} 00000000`,
    server: `${ok(c1)} ${ok(c2)} ${ok(c3)}`,
  },
  {
    title: 'WRITE_ZEROES zeroes an unaligned range and reads as zeroes',
    dialect: 'simple',
    client: `25609513 0000 0006 ${c1} 0000000000000001 00000002
      25609513 0000 0000 ${c2} ${at0} 00000004`,
    server: `${ok(c1)} ${ok(c2)} 41000044`,
  },
  {
    title: 'WRITE_ZEROES with NO_HOLE leaves zeroes that are allocated',
    dialect: 'structured',
    client: `25609513 0002 0006 ${c1} ${at0} 00001000
      25609513 0000 0007 ${c2} ${at0} 00002000`,
    server: `${ok(c1)}
      668e33ef 0001 0005 ${c2} 00000014 00000001 00001000 00000002 00001000 00000003`,
  },
  {
    title: 'WRITE_ZEROES with FAST_ZERO succeeds for whole blocks that may become holes',
    dialect: 'structured',
    client: `25609513 0010 0006 ${c1} 0000000000001000 00002000
      25609513 0011 0006 ${c2} ${at0} 00010000`,
    server: `${ok(c1)} ${ok(c2)}`,
  },
  {
    title: 'WRITE_ZEROES with FAST_ZERO fails fast and changes nothing where it would be slow',
    dialect: 'simple',
    client: `25609513 0010 0006 ${c1} ${at0} 00000003
      25609513 0012 0006 ${c2} ${at0} 00001000
      25609513 0000 0000 ${c3} ${at0} 00000003`,
    server: `${fail(c1, enotsup)} ${fail(c2, enotsup)} ${ok(c3)} 414243`,
  },
  {
    title: 'requests past the end: EINVAL, and ENOSPC for what would write',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} 000000000000ffff 00000002
      25609513 0000 0001 ${c1} 000000000000ffff 00000002 7878
      25609513 0000 0004 ${c1} 000000000000ffff 00000002
      25609513 0000 0005 ${c1} 000000000000ffff 00000002
      25609513 0000 0006 ${c1} 000000000000ffff 00000002
      25609513 0000 0000 ${c2} 000000000000ffff 00000001`,
    server: `${fail(c1, einval)} ${fail(c1, enospc)} ${fail(c1, einval)} ${fail(c1, einval)}
      ${fail(c1, enospc)} ${ok(c2)} 00`,
  },
  {
    title: 'offsets that do not fit a signed or a 53-bit number are past the end',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} ffffffffffffffff 00000001
      25609513 0000 0000 ${c1} 8000000000000000 00000001
      25609513 0000 0000 ${c1} 0020000000000001 00000001
      25609513 0000 0001 ${c2} fffffffffffffffe 00000002 7878
      25609513 0000 0006 ${c2} ffffffff00000000 ffffffff`,
    server: `${fail(c1, einval).repeat(3)} ${fail(c2, enospc).repeat(2)}`,
  },
  {
    title: 'zero-length requests do nothing and succeed',
    dialect: 'simple',
    client: [0, 1, 4, 5, 6]
      .map((number) => `25609513 0000 000${number} ${c1} ${at0} 00000000`)
      .join(''),
    server: ok(c1).repeat(5),
  },
  {
    title: 'a zero-length structured read is answered without content',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} ${at0} 00000000`,
    server: `668e33ef 0001 0000 ${c1} 00000000`,
  },
  {
    title: 'a zero-length block status is invalid',
    dialect: 'structured',
    client: `25609513 0000 0007 ${c1} ${at0} 00000000`,
    server: error(c1, einval),
  },
  {
    title: 'a write above the maximum is refused after its payload, and the session goes on',
    dialect: 'simple',
    client: `25609513 0000 0001 ${c1} ${at0} 00000011 ${'ff'.repeat(17)}
      25609513 0000 0001 ${c2} ${at0} 00000010 ${'61'.repeat(16)}
      25609513 0000 0000 ${c3} ${at0} 00000002`,
    server: `${fail(c1, einval)} ${ok(c2)} ${ok(c3)} 6161`,
    maximumRequestBytes: 16,
  },
  {
    title: 'a read above the maximum is refused: EINVAL simple',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} ${at0} 00000011`,
    server: fail(c1, einval),
    maximumRequestBytes: 16,
  },
  {
    title: 'a read above the maximum is refused: EOVERFLOW structured',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} ${at0} 00000011 25609513 0004 0000 ${c1} ${at0} 00000011`,
    server: `${error(c1, eoverflow)} ${error(c1, eoverflow)}`,
    maximumRequestBytes: 16,
  },
  {
    title: 'effect lengths above the maximum are served',
    dialect: 'simple',
    client: `25609513 0000 0006 ${c1} ${at0} 00010000 25609513 0000 0004 ${c2} ${at0} 00010000`,
    server: `${ok(c1)} ${ok(c2)}`,
    maximumRequestBytes: 16,
  },
  {
    title: 'unknown commands are invalid, and what they may not be is skipped',
    dialect: 'simple',
    client: `25609513 0000 0008 ${c1} ${at0} 00000000 25609513 0000 ffff ${c2} ${at0} 00000004
      25609513 0000 0003 ${c3} ${at0} 00000000`,
    server: `${fail(c1, einval)} ${fail(c2, einval)} ${ok(c3)}`,
  },
  {
    title: 'unknown flags, and flags of another command, are invalid',
    dialect: 'structured',
    client: `25609513 0040 0000 ${c1} ${at0} 00000001 ; unknown
      25609513 0002 0000 ${c1} ${at0} 00000001        ; NO_HOLE on READ
      25609513 0004 0001 ${c1} ${at0} 00000001 ff     ; DF on WRITE
      25609513 0020 0001 ${c1} ${at0} 00000001 ff     ; PAYLOAD_LEN without extended headers
      25609513 0008 0003 ${c1} ${at0} 00000000        ; REQ_ONE on FLUSH
      25609513 0010 0004 ${c1} ${at0} 00000001        ; FAST_ZERO on TRIM
      25609513 0001 0005 ${c2} ${at0} 00000001
      25609513 0002 0005 ${c1} ${at0} 00000001        ; NO_HOLE on CACHE
      25609513 8000 0006 ${c1} ${at0} 00000001        ; unknown
      25609513 0004 0007 ${c1} ${at0} 00000001        ; DF on BLOCK_STATUS`,
    server: `${error(c1, einval).repeat(6)} ${ok(c2)} ${error(c1, einval).repeat(3)}`,
  },
  {
    title: 'DF is invalid without structured replies',
    dialect: 'simple',
    client: `25609513 0004 0000 ${c1} ${at0} 00000001`,
    server: fail(c1, einval),
  },
  {
    title: 'FLUSH with an offset or a length is invalid',
    dialect: 'simple',
    client: `25609513 0000 0003 ${c1} 0000000000000001 00000000
      25609513 0000 0003 ${c1} ${at0} 00000001`,
    server: fail(c1, einval).repeat(2),
  },
  {
    title: 'a read-only export refuses what writes, its payload skipped, and serves the rest',
    dialect: 'simple',
    client: `25609513 0000 0001 ${c1} ${at0} 00000003 616263
      25609513 0000 0004 ${c1} ${at0} 00001000
      25609513 0000 0006 ${c1} ${at0} 00001000
      25609513 0000 0003 ${c2} ${at0} 00000000
      25609513 0000 0000 ${c2} ${at0} 00000001`,
    server: `${fail(c1, eperm).repeat(3)} ${ok(c2)} ${ok(c2)} 00`,
    device: readOnly,
  },
  {
    title: 'an error of the device is told by its NBD number',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} ${at0} 00000001
      25609513 0000 0001 ${c2} ${at0} 00000001 61
      25609513 0000 0003 ${c3} ${at0} 00000000`,
    server: `${fail(c1, eio)} ${fail(c2, eio)} ${ok(c3)}`,
    device: () => new FailingDevice(65_536, 0),
  },
  {
    title: 'an error that comes later is told the same',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} ${at0} 00000001`,
    server: fail(c1, eio),
    device: () => new FailingDevice(65_536, 0, { later: true }),
  },
  {
    title: 'a full disk is ENOSPC',
    dialect: 'simple',
    client: `25609513 0000 0001 ${c1} ${at0} 00000001 61`,
    server: fail(c1, enospc),
    device: () =>
      new FailingDevice(65_536, 0, { error: new StorageError('no-space', 'the disk is full') }),
  },
  {
    title: 'ENOTSUP is for fast zeroes only',
    dialect: 'simple',
    client: `25609513 0010 0006 ${c1} ${at0} 00001000 25609513 0000 0006 ${c2} ${at0} 00001000`,
    server: `${fail(c1, enotsup)} ${fail(c2, einval)}`,
    device: () =>
      new FailingDevice(65_536, 0, { error: new StorageError('unsupported', 'no zeroing here') }),
  },
  {
    title: 'errors to structured requests are structured, reads and others alike',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} ${at0} 00000001 25609513 0000 0001 ${c2} ${at0} 00000001 61
      25609513 0000 0007 ${c3} ${at0} 00000001`,
    server: `${error(c1, eio)} ${error(c2, eio)} ${error(c3, eio)}`,
    device: () => new FailingDevice(65_536, 0),
  },
  {
    title: 'a structured read is one chunk of data that ends the reply',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} 0000000000000002 00000003`,
    server: `668e33ef 0001 0001 ${c1} 0000000b 0000000000000002 434445`,
  },
  {
    title: 'a large read describes its holes',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} 0000000000001000 0000f000`,
    server: `668e33ef 0001 0002 ${c1} 0000000c 0000000000001000 0000f000`,
  },
  {
    title: 'a large read of data and holes is a chunk for each, in order',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} 0000000000007ffe 00010004`,
    server: `668e33ef 0000 0001 ${c1} 0000000a 0000000000007ffe 6161
      668e33ef 0000 0002 ${c1} 0000000c 0000000000008000 00010000
      668e33ef 0001 0001 ${c1} 0000000a 0000000000018000 6262`,
    device: striped,
  },
  {
    title: 'DF sends the same as one chunk with its zeroes',
    dialect: 'structured',
    client: `25609513 0004 0000 ${c1} 0000000000007ffe 00010004`,
    server: `668e33ef 0001 0001 ${c1} 0001000c 0000000000007ffe 6161 ${'00'.repeat(65_536)} 6262`,
    device: striped,
  },
  {
    title: 'a large read whose last part fails says where',
    dialect: 'structured',
    client: `25609513 0000 0000 ${c1} 0000000000007ffe 00010004`,
    server: `668e33ef 0000 0001 ${c1} 0000000a 0000000000007ffe 6161
      668e33ef 0000 0002 ${c1} 0000000c 0000000000008000 00010000
      668e33ef 0001 8002 ${c1} 000000${eio} 0000000000018000`,
    device: () => {
      const device = new FailingDevice(131_072, 98_304, { later: true });
      device.raw().fill(0x61, 0, 32_768);
      device.mark(0, 32_768);
      device.mark(98_304, 32_768);
      return device;
    },
  },
  {
    title: 'BLOCK_STATUS describes data and holes',
    dialect: 'structured',
    client: `25609513 0000 0007 ${c1} 0000000000000800 00010000`,
    server: `668e33ef 0001 0005 ${c1} 0000001c 00000001
      00007800 00000000 00008000 00000002 00000800 00000003`,
    device: striped,
  },
  {
    title: 'BLOCK_STATUS with REQ_ONE is one extent, not longer than asked',
    dialect: 'structured',
    client: `25609513 0008 0007 ${c1} 0000000000000800 00010000
      25609513 0008 0007 ${c2} 0000000000000000 00000200`,
    server: `668e33ef 0001 0005 ${c1} 0000000c 00000001 00007800 00000000
      668e33ef 0001 0005 ${c2} 0000000c 00000001 00000200 00000000`,
    device: striped,
  },
  {
    title: 'BLOCK_STATUS without a negotiated context is invalid',
    dialect: 'simple',
    client: `25609513 0000 0007 ${c1} ${at0} 00001000`,
    server: fail(c1, einval),
  },
  {
    title: 'BLOCK_STATUS past the end is invalid',
    dialect: 'structured',
    client: `25609513 0000 0007 ${c1} 000000000000f000 00001001`,
    server: error(c1, einval),
  },
  {
    title: 'extended READ and WRITE',
    dialect: 'extended',
    client: `21e41c71 0000 0000 ${c1} 0000000000000002 0000000000000003
      21e41c71 0020 0001 ${c2} 0000000000000002 0000000000000002 7879`,
    server: `6e8a278c 0001 0001 ${c1} 0000000000000002 000000000000000b 0000000000000002 434445
      ${extendedOk(c2, '0000000000000002')}`,
  },
  {
    title: 'extended TRIM, CACHE, FLUSH and WRITE_ZEROES, with lengths of 64 bits',
    dialect: 'extended',
    client: [4, 5, 3, 6]
      .map((number) => `21e41c71 0001 000${number} ${c1} ${at0} ${at0}`)
      .join('')
      .concat(`21e41c71 0000 0006 ${c2} ${at0} 0000000100000000`),
    server: `${extendedOk(c1).repeat(4)} ${extendedError(c2, enospc)}`,
  },
  {
    title: 'an extended large read describes its holes, with the offset of the request',
    dialect: 'extended',
    client: `21e41c71 0000 0000 ${c1} 0000000000007ffe 0000000000010004`,
    server: `6e8a278c 0000 0001 ${c1} 0000000000007ffe 000000000000000a 0000000000007ffe 6161
      6e8a278c 0000 0002 ${c1} 0000000000007ffe 000000000000000c 0000000000008000 00010000
      6e8a278c 0001 0001 ${c1} 0000000000007ffe 000000000000000a 0000000000018000 6262`,
    device: striped,
  },
  {
    title: 'extended BLOCK_STATUS is answered with 64-bit extents',
    dialect: 'extended',
    client: `21e41c71 0000 0007 ${c1} ${at0} 0000000000002000`,
    server: `6e8a278c 0001 0006 ${c1} ${at0} 0000000000000028 00000001 00000002
      0000000000001000 0000000000000000 0000000000001000 0000000000000003`,
  },
  {
    title: 'BLOCK_STATUS takes its length and contexts from a payload',
    dialect: 'extended',
    client: `21e41c71 0028 0007 ${c1} ${at0} 000000000000000c 0000000000000800 00000001`,
    server: `6e8a278c 0001 0006 ${c1} ${at0} 0000000000000018 00000001 00000001
      0000000000000800 0000000000000000`,
  },
  {
    title: 'a BLOCK_STATUS payload with other contexts, or none, or a bad length, is invalid',
    dialect: 'extended',
    client: `21e41c71 0020 0007 ${c1} ${at0} 000000000000000c 0000000000001000 00000002
      21e41c71 0020 0007 ${c1} ${at0} 0000000000000008 0000000000001000
      21e41c71 0020 0007 ${c1} ${at0} 0000000000000010 0000000000001000 00000001 00000001
      21e41c71 0020 0007 ${c1} ${at0} 0000000000000003 000000
      21e41c71 0020 0007 ${c1} ${at0} 000000000000000c 0000000000010001 00000001
      21e41c71 0020 0007 ${c1} ${at0} 000000000000000c 0000000000000000 00000001
      21e41c71 0000 0003 ${c2} ${at0} ${at0}`,
    server: `${extendedError(c1, einval).repeat(6)} ${extendedOk(c2)}`,
  },
  {
    title: 'an extended WRITE without the payload flag has no payload and is invalid',
    dialect: 'extended',
    client: `21e41c71 0000 0001 ${c1} ${at0} 0000000000000004 21e41c71 0000 0003 ${c2} ${at0} ${at0}`,
    server: `${extendedError(c1, einval)} ${extendedOk(c2)}`,
  },
  {
    title: 'a payload where none is allowed is consumed and the request invalid',
    dialect: 'extended',
    client: [0, 3, 4, 5, 6]
      .map((number) => `21e41c71 0020 000${number} ${c1} ${at0} 0000000000000004 01020304`)
      .join('')
      .concat(`21e41c71 0000 0003 ${c2} ${at0} ${at0}`),
    server: `${extendedError(c1, einval).repeat(5)} ${extendedOk(c2)}`,
  },
  {
    title: 'an extended payload above the maximum cuts the session, after earlier replies',
    dialect: 'extended',
    client: `21e41c71 0000 0003 ${c1} ${at0} ${at0} 21e41c71 0020 0001 ${c2} ${at0} 0000000000000011`,
    server: extendedOk(c1),
    state: 'cut',
    maximumRequestBytes: 16,
  },
  {
    title: 'a wrong magic cuts the session, after earlier replies',
    dialect: 'simple',
    client: `25609513 0000 0003 ${c1} ${at0} 00000000 25609514 0000 0003 ${c2} ${at0} 00000000`,
    server: ok(c1),
    state: 'cut',
  },
  {
    title: 'DISC ends the session after the replies, without one of its own',
    dialect: 'simple',
    client: `25609513 0000 0000 ${c1} ${at0} 00000001 25609513 0000 0002 ${c2} ${at0} 00000000
      25609513 0000 0000 ${c3} ${at0} 00000001`,
    server: `${ok(c1)} 41`,
    state: 'ended',
  },
];

describe('transmission, byte for byte and cut at every byte', () => {
  it.each(cases)('$title', async ({ dialect, client, server, state, device, ...rest }) => {
    const bytes = hex(client);
    const expected = hex(server).toString('hex');
    const limits =
      rest.maximumRequestBytes === undefined
        ? {}
        : { limits: { maximumRequestBytes: rest.maximumRequestBytes } };
    for (let cutAt = 0; cutAt <= bytes.length; cutAt += 1) {
      const devices = { disk: device?.() ?? lettered() };
      const conversation = await enter(dialect, { devices, ...limits });
      conversation.send(bytes.subarray(0, cutAt));
      await conversation.quiet();
      conversation.send(bytes.subarray(cutAt));
      const answer = withoutChunkMessages(await conversation.answer(), dialect);
      const found = conversation.state;
      conversation.vanish();
      await conversation.connection.released;
      expect({ cutAt, answer, state: found }).toEqual({
        cutAt,
        answer: expected,
        state: state ?? 'open',
      });
      expect(conversation.budget.heldBytes).toBe(0);
    }
  });
});
