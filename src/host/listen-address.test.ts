import { describe, expect, it } from 'vitest';
import {
  exportUri,
  formatListenAddress,
  isLocal,
  type ListenAddress,
  parseExportUri,
  parseListenAddress,
} from './listen-address.ts';

describe('listen addresses', () => {
  it.each<[string, ListenAddress]>([
    ['nbd://127.0.0.1:10809', { kind: 'tcp', host: '127.0.0.1', port: 10_809 }],
    ['nbd://127.0.0.1:0', { kind: 'tcp', host: '127.0.0.1', port: 0 }],
    ['nbd://0.0.0.0/', { kind: 'tcp', host: '0.0.0.0', port: 10_809 }],
    ['nbd://localhost:9999', { kind: 'tcp', host: 'localhost', port: 9999 }],
    ['nbd://[::1]:7', { kind: 'tcp', host: '::1', port: 7 }],
    ['nbd+unix:///run/ed.sock', { kind: 'unix', path: '/run/ed.sock' }],
    ['nbd+unix:///run/a%20b', { kind: 'unix', path: '/run/a b' }],
  ])('reads %s', (text, address) => {
    expect(parseListenAddress(text)).toEqual(address);
    expect(parseListenAddress(formatListenAddress(address))).toEqual(address);
  });

  it.each([
    '',
    '127.0.0.1:10809',
    'http://127.0.0.1',
    'nbds://127.0.0.1',
    'nbd://',
    'nbd://127.0.0.1:65536',
    'nbd://127.0.0.1:10809/drive0',
    'nbd://user:secret@127.0.0.1',
    'nbd+unix://run/ed.sock',
    'nbd+unix:///',
    'nbd+unix:///drive0?socket=/run/ed.sock',
    'nbd+unix:///%00',
    'nbd+unix:///%zz',
    `nbd+unix:///${'x'.repeat(107)}`,
  ])('refuses %j', (text) => {
    expect(parseListenAddress(text)).toBeUndefined();
  });

  it('says how a client names an export', () => {
    const tcp = { kind: 'tcp', host: '::1', port: 10_809 } as const;
    const unix = { kind: 'unix', path: '/run/a b' } as const;
    expect(exportUri(tcp, 'drive0')).toBe('nbd://[::1]:10809/drive0');
    expect(exportUri(tcp, '')).toBe('nbd://[::1]:10809');
    expect(exportUri(unix, 'drive0')).toBe('nbd+unix:///drive0?socket=/run/a%20b');
    expect(exportUri(unix, '')).toBe('nbd+unix:///?socket=/run/a%20b');
  });

  it('knows who can reach it', () => {
    const local = ['nbd://127.1.2.3', 'nbd://localhost', 'nbd://[::1]', 'nbd+unix:///a'];
    const open = ['nbd://0.0.0.0', 'nbd://[::]', 'nbd://10.0.0.1', 'nbd://127.0.0.1.example.org'];
    for (const text of local) expect(isLocal(parseListenAddress(text)!)).toBe(true);
    for (const text of open) expect(isLocal(parseListenAddress(text)!)).toBe(false);
  });
});

describe('URIs of exports', () => {
  it.each<[ListenAddress, string]>([
    [{ kind: 'tcp', host: '127.0.0.1', port: 10_809 }, ''],
    [{ kind: 'tcp', host: '::1', port: 7 }, 'a/b ?ö'],
    [{ kind: 'unix', path: '/run/a b.sock' }, 'drive0'],
    [{ kind: 'unix', path: '/run/a' }, ''],
  ])('of %j and "%s" are read as they are written', (address, exportName) => {
    expect(parseExportUri(exportUri(address, exportName))).toEqual({ address, exportName });
  });

  it.each([
    '',
    'drive0',
    'nbds://host/drive',
    'nbd://host:99999/drive',
    'nbd://host/drive?socket=/run/a',
    'nbd+unix:///drive',
    'nbd+unix://host/drive?socket=/run/a',
    'nbd+unix:///drive?socket=relative',
    'nbd://host/%ff',
  ])('are not "%s"', (text) => {
    expect(parseExportUri(text)).toBeUndefined();
  });
});
