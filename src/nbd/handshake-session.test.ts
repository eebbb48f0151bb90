import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../test/support/memory-device.ts';
import { memoryCatalog } from '../../test/support/memory-catalog.ts';
import { Conversation, greeting, hex } from './testing/conversation.ts';

const flags = '00000003'; // fixed newstyle, no zeroes
const opt = '49484156454f5054';
const go = `${opt} 00000007 0000000a 00000004 6469736b 0000`;

describe('a handshake', () => {
  it('begins with the greeting of a fixed newstyle server', async () => {
    const conversation = new Conversation();
    const said = await conversation.said();
    conversation.vanish();
    expect(said.toString('hex')).toBe(hex(greeting).toString('hex'));
    expect(said.toString('latin1', 0, 16)).toBe('NBDMAGICIHAVEOPT');
  });

  it('is cut off when it takes longer than its limit', async () => {
    const conversation = new Conversation({ limits: { handshakeMs: 5_000 } });
    conversation.send(`${flags} ${opt} 00000003 00000000`);
    await conversation.quiet();
    conversation.clock.advance(4_999);
    expect(conversation.state).toBe('open');
    conversation.clock.advance(1);
    expect(conversation.state).toBe('cut');
    await conversation.connection.released;
    expect(conversation.clock.pending).toBe(0);
  });

  it('lets go of an export that was asked about and not entered', async () => {
    const catalog = memoryCatalog({ one: new MemoryDevice(4096), two: new MemoryDevice(4096) });
    const conversation = new Conversation({ catalog });
    conversation.send(`${flags} ${opt} 00000006 00000009 00000003 6f6e65 0000`);
    await conversation.quiet();
    expect(catalog.openHandles()).toBe(1);
    conversation.send(`${opt} 00000006 00000009 00000003 74776f 0000`);
    await conversation.quiet();
    expect(catalog.openHandles()).toBe(1);
    conversation.vanish();
    await conversation.connection.released;
    expect(catalog.openHandles()).toBe(0);
  });

  it('lets go of an export that was opened after the client left', async () => {
    const inner = memoryCatalog({ disk: new MemoryDevice(4096) });
    const gate = Promise.withResolvers<void>();
    const catalog = {
      list: () => inner.list(),
      open: async (name: string) => {
        await gate.promise;
        return inner.open(name);
      },
    };
    const conversation = new Conversation({ catalog });
    conversation.send(`${flags} ${go}`);
    await conversation.quiet();
    conversation.vanish();
    await conversation.quiet();
    gate.resolve();
    await conversation.connection.released;
    expect(inner.openHandles()).toBe(0);
  });

  it('ends when the client closes its half', async () => {
    const conversation = new Conversation();
    conversation.send(`${flags} ${opt} 00000003 00000000 49484156`);
    conversation.finish();
    await conversation.answer();
    expect(conversation.state).toBe('ended');
    await conversation.connection.released;
  });
});
