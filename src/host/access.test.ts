import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../test/support/memory-device.ts';
import { memoryCatalog } from '../../test/support/memory-catalog.ts';
import { accessOf, formatAccessRule, guardCatalog, parseAccessRule } from './access.ts';

function rules(...texts: string[]) {
  return texts.map((text) => {
    const rule = parseAccessRule(text);
    if (rule === undefined) throw new Error(`no rule: ${text}`);
    return rule;
  });
}

describe('a rule of access', () => {
  it.each(['backup:read:*', 'web 1:write:web-data,web-logs', 'a@b.c:read:db*.old,drive0@monday'])(
    'is read and written: %s',
    (text) => {
      expect(formatAccessRule(rules(text)[0]!)).toBe(text);
    },
  );

  it.each([
    '',
    'backup',
    'backup:read:',
    'backup:delete:*',
    'backup:read:a/b',
    ':read:*',
    'a:b:read:*',
  ])('is refused: %j', (text) => {
    expect(parseAccessRule(text)).toBeUndefined();
  });

  it('allows what the most generous of a client’s rules does, and no other client’s', () => {
    const all = rules('backup:read:*', 'backup:write:tape*', 'web:write:web.data');
    expect(accessOf(all, 'backup', 'drive0')).toBe('read');
    expect(accessOf(all, 'backup', 'tape1')).toBe('write');
    expect(accessOf(all, 'web', 'web.data')).toBe('write');
    expect(accessOf(all, 'web', 'webxdata')).toBe('none');
    expect(accessOf(all, 'web', 'web.data2')).toBe('none');
    expect(accessOf(all, 'webb', 'web.data')).toBe('none');
  });
});

describe('a guarded catalog', () => {
  const devices = { drive0: new MemoryDevice(8192), tape: new MemoryDevice(8192) };
  const open = memoryCatalog(devices);
  const guarded = guardCatalog(open, rules('backup:read:drive0', 'writer:write:tape'));
  const namesFor = async (name: string): Promise<string[]> =>
    (await guarded.list({ name })).map((volume) => volume.name);

  it('shows each client its volumes', async () => {
    expect(await namesFor('backup')).toEqual(['drive0']);
    expect(await namesFor('writer')).toEqual(['tape']);
    expect(await namesFor('nobody')).toEqual([]);
    expect(await guarded.list()).toHaveLength(2);
  });

  it('gives a client that may read a device that it cannot change', async () => {
    const { device, close } = await guarded.open('drive0', { name: 'backup' });
    expect(device.readOnly).toBe(true);
    expect(() => device.write(0, new Uint8Array(512), { fua: false })).toThrow(/may read/);
    const into = new Uint8Array(512).fill(9);
    await device.read(0, into);
    expect(into[0]).toBe(0);
    await close();
  });

  it('refuses what is not allowed, by the default name as well, and leaves nothing open', async () => {
    const denied = { code: 'denied' };
    await expect(guarded.open('tape', { name: 'backup' })).rejects.toMatchObject(denied);
    await expect(guarded.open('', { name: 'writer' })).rejects.toMatchObject(denied);
    const { device, close } = await guarded.open('tape', { name: 'writer' });
    expect(device.readOnly).toBe(false);
    await close();
    expect(open.openHandles()).toBe(0);
  });
});
