import { describe, expect, it } from 'vitest';
import { RequestParser } from './request-parser.ts';
import { hex } from './testing/conversation.ts';

interface Case {
  readonly title: string;
  readonly bytes: string;
  readonly extended?: boolean;
  /** One line for each event; see `parse`. */
  readonly events: readonly string[];
  /** Cookies whose payload is skipped instead of taken. */
  readonly skipping?: readonly number[];
}

const cases: readonly Case[] = [
  {
    title: 'a read',
    bytes: '25609513 0001 0000 0102030405060708 0000000100000002 00001000',
    events: ['command 0 flags 1 cookie 1020304,5060708 offset 4294967298 length 4096 payload -'],
  },
  {
    title: 'a write and its payload',
    bytes: '25609513 0000 0001 00000000ffffffff 0000000000000005 00000003 616263',
    events: ['command 1 flags 0 cookie 0,ffffffff offset 5 length 3 payload 616263'],
  },
  {
    title: 'requests one after another',
    bytes: `25609513 0000 0003 0000000000000001 0000000000000000 00000000
      25609513 0000 0001 0000000000000002 0000000000000000 00000002 ffee
      25609513 0000 0000 0000000000000003 0000000000000000 00000001`,
    events: [
      'command 3 flags 0 cookie 0,1 offset 0 length 0 payload -',
      'command 1 flags 0 cookie 0,2 offset 0 length 2 payload ffee',
      'command 0 flags 0 cookie 0,3 offset 0 length 1 payload -',
    ],
  },
  {
    title: 'a write without bytes',
    bytes: '25609513 0000 0001 0000000000000001 0000000000000000 00000000',
    events: ['command 1 flags 0 cookie 0,1 offset 0 length 0 payload -'],
  },
  {
    title: 'a skipped payload and what follows it',
    bytes: `25609513 0000 0001 0000000000000007 0000000000000000 00000005 0102030405
      25609513 0000 0003 0000000000000008 0000000000000000 00000000`,
    skipping: [7],
    events: ['skipped 7', 'command 3 flags 0 cookie 0,8 offset 0 length 0 payload -'],
  },
  {
    title: 'an offset of 2^53 and more, and the largest',
    bytes: `25609513 0000 0000 0000000000000001 0020000000000000 00000001
      25609513 0000 0000 0000000000000002 ffffffffffffffff ffffffff`,
    events: [
      'command 0 flags 0 cookie 0,1 offset 9007199254740992 length 1 payload -',
      'command 0 flags 0 cookie 0,2 offset 18446744073709552000 length 4294967295 payload -',
    ],
  },
  {
    title: 'an unknown command has no payload in the compact header',
    bytes: `25609513 ffff ffff 0000000000000001 0000000000000000 00000004
      25609513 0000 0002 0000000000000002 0000000000000000 00000000`,
    events: [
      'command 65535 flags 65535 cookie 0,1 offset 0 length 4 payload -',
      'command 2 flags 0 cookie 0,2 offset 0 length 0 payload -',
    ],
  },
  {
    title: 'a wrong magic loses the framing for good',
    bytes: `25609514 0000 0003 0000000000000001 0000000000000000 00000000
      25609513 0000 0003 0000000000000002 0000000000000000 00000000`,
    events: ['broken'],
  },
  {
    title: 'the extended magic is wrong with compact headers',
    bytes: '21e41c71 0000 0003 0000000000000001 0000000000000000 00000000 00000000',
    events: ['broken'],
  },
  {
    title: 'an extended write carries its payload by flag',
    bytes: '21e41c71 0020 0001 0000000000000001 0000000000000009 0000000000000002 abcd',
    extended: true,
    events: ['command 1 flags 32 cookie 0,1 offset 9 length 2 payload abcd'],
  },
  {
    title: 'without the flag an extended length is an effect length, up to 64 bits',
    bytes: `21e41c71 0000 0001 0000000000000001 0000000000000000 0000000000000002
      21e41c71 0000 0006 0000000000000002 0000000000000000 0000001000000000`,
    extended: true,
    events: [
      'command 1 flags 0 cookie 0,1 offset 0 length 2 payload -',
      'command 6 flags 0 cookie 0,2 offset 0 length 68719476736 payload -',
    ],
  },
  {
    title: 'the compact magic is wrong with extended headers',
    bytes: '25609513 0000 0003 0000000000000001 0000000000000000 00000000 00000000',
    extended: true,
    events: ['broken'],
  },
];

/** Pushes the pieces one after another and writes down what the parser says. */
function parse(pieces: readonly Uint8Array[], { extended, skipping }: Case): string[] {
  const parser = new RequestParser(extended ?? false);
  const events: string[] = [];
  const told = (): void => {
    const { command, flags, cookieHigh, cookieLow, offset, lengthBytes } = parser.request;
    const cookie = `${(cookieHigh >>> 0).toString(16)},${(cookieLow >>> 0).toString(16)}`;
    const payload = Buffer.from(parser.payload).toString('hex') || '-';
    events.push(
      `command ${command} flags ${flags} cookie ${cookie} offset ${offset} length ${lengthBytes} payload ${payload}`,
    );
    parser.recycle();
  };
  for (const piece of pieces) {
    // A piece is the caller's again once it is consumed: nothing may go on pointing into it.
    const chunk = Buffer.from(piece);
    parser.push(chunk);
    for (let event = parser.next(); event !== 'starved'; event = parser.next()) {
      if (event === 'broken') return [...events, 'broken'];
      if (event === 'payload') told();
      else if (event === 'skipped') events.push(`skipped ${parser.request.cookieLow}`);
      else if (skipping?.includes(parser.request.cookieLow) === true) {
        if (parser.skip()) events.push(`skipped ${parser.request.cookieLow}`);
      } else if (parser.accept()) told();
    }
    chunk.fill(0xee);
  }
  return events;
}

describe('the request parser', () => {
  it.each(cases)('reads $title, cut at every byte', (testCase) => {
    const bytes = hex(testCase.bytes);
    for (let cutAt = 0; cutAt <= bytes.length; cutAt += 1) {
      const events = parse([bytes.subarray(0, cutAt), bytes.subarray(cutAt)], testCase);
      expect({ cutAt, events }).toEqual({ cutAt, events: testCase.events });
    }
  });

  it.each(cases)('reads $title, byte by byte', (testCase) => {
    const pieces = Array.from(hex(testCase.bytes), (byte) => Uint8Array.of(byte));
    expect(parse(pieces, testCase)).toEqual(testCase.events);
  });

  it('takes a payload that came whole from the chunk itself, without a copy', () => {
    const parser = new RequestParser(false);
    const chunk = hex('25609513 0000 0001 0000000000000001 0000000000000000 00000003 616263');
    parser.push(chunk);
    expect(parser.next()).toBe('header');
    expect(parser.accept()).toBe(true);
    expect(parser.payload.buffer).toBe(chunk.buffer);
    expect(parser.payload.byteOffset).toBe(chunk.byteOffset + 28);
  });

  it('asks again about a header until somebody decides', () => {
    const parser = new RequestParser(false);
    parser.push(hex('25609513 0000 0001 0000000000000001 0000000000000000 00000002 6162'));
    expect([parser.next(), parser.next(), parser.next()]).toEqual(['header', 'header', 'header']);
    expect(parser.accept()).toBe(true);
    expect(parser.next()).toBe('starved');
  });

  it('uses a gathered buffer again only after it was given back', () => {
    const parser = new RequestParser(false);
    const gather = (bytes: string): Uint8Array => {
      parser.push(hex('25609513 0000 0001 0000000000000001 0000000000000000 00000002'));
      expect(parser.next()).toBe('header');
      expect(parser.accept()).toBe(false);
      expect(parser.next()).toBe('starved');
      parser.push(hex(bytes));
      expect(parser.next()).toBe('payload');
      return parser.payload;
    };
    const kept = gather('6161');
    const returned = gather('6262');
    expect(returned.buffer).not.toBe(kept.buffer);
    parser.recycle();
    expect(gather('6363').buffer).toBe(returned.buffer);
    expect(Buffer.from(kept).toString()).toBe('aa');
  });
});
