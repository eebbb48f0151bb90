import { expect, test } from 'vitest';
import { missingServerFlags, serverFlags } from './server-flags.ts';

const serve = ['node', 'elasticdrive.js', 'serve', '--config', 'c.toml'];

test('a daemon that was started without the flags lacks them all', () => {
  expect(missingServerFlags(serve, ['--inspect'], {})).toEqual(serverFlags);
});

test('one that has them lacks nothing, so that it does not replace itself for ever', () => {
  expect(missingServerFlags(serve, ['--inspect', ...serverFlags], {})).toEqual([]);
});

test('one that was passed sockets keeps them', () => {
  expect(missingServerFlags(serve, [], { LISTEN_FDS: '1' })).toEqual([]);
});

test('what does not serve needs none', () => {
  expect(missingServerFlags(['node', 'elasticdrive.js', 'volume', 'list'], [], {})).toEqual([]);
});
