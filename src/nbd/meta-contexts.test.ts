import { describe, expect, it } from 'vitest';
import { TrackedDevice } from '../../test/support/tracked-device.ts';
import { answerTo, Conversation, type ConversationOptions, hex } from './testing/conversation.ts';
import { withoutChunkMessages, withoutOptionMessages } from './testing/replies.ts';
import type { Dialect } from './wire.ts';

/** Metadata contexts beside `base:allocation`, byte for byte. */

const flags = '00000003'; // fixed newstyle, no zeroes
const opt = '49484156454f5054';
const rep = '0003e889045565a9';
const structured = `${flags} ${opt} 00000008 00000000`;
const extended = `${flags} ${opt} 0000000b 00000000`;
const structuredOk = `${rep} 00000008 00000001 00000000`;
const cookie = '0102030405060708';

const text = (words: string): string => Buffer.from(words).toString('hex');
const u32 = (value: number): string => value.toString(16).padStart(8, '0');
const string = (words: string): string => `${u32(words.length)} ${text(words)}`;

/** LIST_META_CONTEXT (9) or SET_META_CONTEXT (10) for the export `disk`. */
function contexts(option: 9 | 10, queries: readonly string[], name = 'disk'): string {
  const data = `${string(name)} ${u32(queries.length)} ${queries.map(string).join('')}`;
  return `${opt} ${u32(option)} ${u32(hex(data).length)} ${data}`;
}

/** The replies that name contexts, and the end of the list. */
function named(option: 9 | 10, names: readonly string[]): string {
  const replies = names.map(
    (name, index) =>
      `${rep} ${u32(option)} 00000004 ${u32(4 + name.length)}
       ${u32(option === 9 ? 0 : index + 1)} ${text(name)}`,
  );
  return `${replies.join('')} ${rep} ${u32(option)} 00000001 00000000`;
}

const allocation = 'base:allocation';
const monday = 'qemu:dirty-bitmap:monday';
const tuesday = 'qemu:dirty-bitmap:tuesday';

/** 64 KiB: block 1 written since Monday, block 3 since Tuesday too. */
function week(): TrackedDevice {
  const device = new TrackedDevice(65_536);
  device.put(0, Buffer.alloc(4096, 0x61));
  device.keep('monday');
  device.put(4096, Buffer.alloc(4096, 0x62));
  device.keep('tuesday');
  device.put(3 * 4096, Buffer.alloc(4096, 0x63));
  return device;
}

const options = (): ConversationOptions => ({ devices: { disk: week(), two: week() } });

async function expectAnswer(
  client: string,
  server: string,
  change: ConversationOptions = {},
): Promise<void> {
  const bytes = hex(client);
  for (let cutAt = 0; cutAt <= bytes.length; cutAt += 7) {
    const found = await answerTo(bytes, cutAt, { ...options(), ...change });
    const answer = withoutOptionMessages(Buffer.from(found.answer, 'hex'));
    expect(answer).toBe(hex(server).toString('hex'));
  }
}

describe('negotiating the contexts of changes', () => {
  it.each([
    ['all of them without a query', [], [allocation, monday, tuesday]],
    ['all with the wildcard of the namespace', ['qemu:'], [monday, tuesday]],
    ['all with the wildcard of dirty bitmaps', ['qemu:dirty-bitmap:'], [monday, tuesday]],
    ['one by its name', [tuesday], [tuesday]],
    [
      'each once, however often it is asked for',
      ['base:', monday, 'qemu:'],
      [allocation, monday, tuesday],
    ],
    ['nothing for other names', ['qemu:allocation-depth', 'qemu:dirty', 'x:y'], []],
  ])('LIST_META_CONTEXT lists %s', async (_title, queries, found) => {
    const client = `${structured} ${contexts(9, queries)}`;
    await expectAnswer(client, `${structuredOk} ${named(9, found)}`);
  });

  it.each([
    [
      'several at once, each with an id',
      [allocation, tuesday, monday],
      [allocation, tuesday, monday],
    ],
    ['one alone', [monday], [monday]],
    [
      'none for wildcards and for moments that are not there',
      ['qemu:', 'qemu:dirty-bitmap:', 'qemu:dirty-bitmap:no'],
      [],
    ],
    ['each once', [monday, monday], [monday]],
  ])('SET_META_CONTEXT selects %s', async (_title, queries, found) => {
    const client = `${structured} ${contexts(10, queries)}`;
    await expectAnswer(client, `${structuredOk} ${named(10, found)}`);
  });

  it('SET_META_CONTEXT with more contexts than the limit is too big', async () => {
    const limits = { metaContexts: 1 };
    await expectAnswer(
      `${structured} ${contexts(10, [monday, 'x:1', 'x:2', 'qemu:'])} ${contexts(10, [monday, tuesday])}`,
      `${structuredOk} ${named(10, [monday])} ${rep} 0000000a 80000009`,
      { limits },
    );
  });
});

const go = (name = 'disk'): string => {
  const data = `${string(name)} 0000`;
  return `${opt} 00000007 ${u32(hex(data).length)} ${data}`;
};

/** A session with all three contexts, and what it was told so far thrown away. */
async function enter(dialect: Dialect, device = week()): Promise<Conversation> {
  const conversation = new Conversation({ devices: { disk: device, two: week() } });
  const start = dialect === 'extended' ? extended : structured;
  conversation.send(`${start} ${contexts(10, [allocation, monday, tuesday])} ${go()}`);
  await conversation.answer();
  return conversation;
}

async function expectReply(
  conversation: Conversation,
  dialect: Dialect,
  client: string,
  server: string,
): Promise<void> {
  conversation.send(client);
  const answer = withoutChunkMessages(await conversation.answer(), dialect);
  conversation.vanish();
  await conversation.connection.released;
  expect(answer).toBe(hex(server).toString('hex'));
}

const at0 = '0000000000000000';

describe('BLOCK_STATUS in several contexts', () => {
  it('is one chunk for each context, the last of them with DONE', async () => {
    await expectReply(
      await enter('structured'),
      'structured',
      `25609513 0000 0007 ${cookie} ${at0} 00010000`,
      `668e33ef 0000 0005 ${cookie} 00000024 00000001
         00002000 00000000 00001000 00000003 00001000 00000000 0000c000 00000003
       668e33ef 0000 0005 ${cookie} 0000002c 00000002
         00001000 00000000 00001000 00000001 00001000 00000000 00001000 00000001 0000c000 00000000
       668e33ef 0001 0005 ${cookie} 0000001c 00000003
         00003000 00000000 00001000 00000001 0000c000 00000000`,
    );
  });

  it('with REQ_ONE is one extent for each context', async () => {
    await expectReply(
      await enter('structured'),
      'structured',
      `25609513 0008 0007 ${cookie} ${at0} 00003000`,
      `668e33ef 0000 0005 ${cookie} 0000000c 00000001 00002000 00000000
       668e33ef 0000 0005 ${cookie} 0000000c 00000002 00001000 00000000
       668e33ef 0001 0005 ${cookie} 0000000c 00000003 00003000 00000000`,
    );
  });

  it('with extended headers has a chunk of 64-bit extents for each context', async () => {
    await expectReply(
      await enter('extended'),
      'extended',
      `21e41c71 0008 0007 ${cookie} ${at0} 0000000000003000`,
      `6e8a278c 0000 0006 ${cookie} ${at0} 0000000000000018 00000001 00000001 0000000000002000 ${at0}
       6e8a278c 0000 0006 ${cookie} ${at0} 0000000000000018 00000002 00000001 0000000000001000 ${at0}
       6e8a278c 0001 0006 ${cookie} ${at0} 0000000000000018 00000003 00000001 0000000000003000 ${at0}`,
    );
  });

  it('with a payload answers in the contexts that this names', async () => {
    const ask = (ids: readonly number[]): string =>
      `21e41c71 0028 0007 ${cookie} ${at0} ${u32(0)} ${u32(8 + 4 * ids.length)}
       0000000000003000 ${ids.map(u32).join('')}`;
    const chunk = (id: number, length: string, chunkFlags: string): string =>
      `6e8a278c ${chunkFlags} 0006 ${cookie} ${at0} 0000000000000018 ${u32(id)} 00000001 ${length} ${at0}`;
    const invalid = `6e8a278c 0001 8001 ${cookie} ${at0} 00000016`;
    await expectReply(
      await enter('extended'),
      'extended',
      [ask([3, 1]), ask([2]), ask([2, 2]), ask([4]), ask([1, 2, 3, 3])].join(''),
      `${chunk(3, '0000000000003000', '0000')} ${chunk(1, '0000000000002000', '0001')}
       ${chunk(2, '0000000000001000', '0001')} ${invalid.repeat(3)}`,
    );
  });

  it('fails as a whole, with one error, when one context cannot be told', async () => {
    const device = week();
    const conversation = await enter('structured', device);
    device.forget('monday');
    await expectReply(
      conversation,
      'structured',
      `25609513 0000 0007 ${cookie} ${at0} 00010000`,
      `668e33ef 0001 8001 ${cookie} 00000005`,
    );
  });
});

it('contexts that were selected outlive a question about another export', async () => {
  const conversation = new Conversation(options());
  const info = go('two').replace('00000007', '00000006');
  conversation.send(`${structured} ${contexts(10, [monday])} ${info} ${go()}`);
  await conversation.answer();
  await expectReply(
    conversation,
    'structured',
    `25609513 0008 0007 ${cookie} 0000000000001000 00001000`,
    `668e33ef 0001 0005 ${cookie} 0000000c 00000001 00001000 00000001`,
  );
});

it('an export whose selected context is gone is not entered as if it were there', async () => {
  const device = week();
  const conversation = new Conversation({ devices: { disk: device, two: week() } });
  const info = go('two').replace('00000007', '00000006');
  conversation.send(`${structured} ${contexts(10, [monday])} ${info}`);
  await conversation.answer();
  device.forget('monday');
  conversation.send(go());
  expect(withoutOptionMessages(await conversation.answer())).toBe(
    hex(`${rep} 00000007 80000002`).toString('hex'),
  );
  conversation.vanish();
  await conversation.connection.released;
});
