import { describe, expect, it } from 'vitest';
import { StorageError } from '../base/errors.ts';
import { fields, Output, table } from './output.ts';
import { Capture } from './testing/run-program.ts';

function outputTo(options: { json?: boolean; terminal?: boolean } = {}): {
  output: Output;
  stdout: Capture;
  stderr: Capture;
} {
  const [stdout, stderr] = [new Capture(), new Capture()];
  const streams = { stdout, stderr, stderrIsTerminal: options.terminal ?? false };
  return { output: new Output(streams, options.json ?? false), stdout, stderr };
}

describe('output', () => {
  it('prints a result as text or as one line of JSON', () => {
    const text = outputTo();
    text.output.result({ a: 1 }, () => 'a is 1');
    expect(text.stdout.text).toBe('a is 1\n');
    const json = outputTo({ json: true });
    json.output.result({ a: 1 }, () => 'a is 1');
    expect(json.stdout.text).toBe('{"a":1}\n');
  });

  it('prints an error with the status of its code', () => {
    const text = outputTo();
    expect(text.output.failure(new StorageError('held', 'It is held.'))).toBe(11);
    expect(text.stderr.text).toBe('elasticdrive: it is held\n');
    const json = outputTo({ json: true });
    expect(json.output.failure(new StorageError('corrupt', 'it is damaged'))).toBe(13);
    expect(JSON.parse(json.stderr.text)).toEqual({
      error: { code: 'corrupt', message: 'it is damaged' },
    });
  });

  it('says where a mistake of our own is', () => {
    const { output, stderr } = outputTo();
    expect(output.failure(new TypeError('x is not y'))).toBe(1);
    expect(stderr.text).toMatch(/^elasticdrive: x is not y\nTypeError: x is not y\n +at /);
  });

  it('shows progress only to someone who watches, and takes it back', () => {
    const away = outputTo();
    away.output.progress('working');
    expect(away.stderr.text).toBe('');
    const { output, stdout, stderr } = outputTo({ terminal: true });
    output.progress('working');
    output.result({}, () => 'done');
    output.result({}, () => 'and more');
    expect(stderr.text).toBe('working\r\u001B[K');
    expect(stdout.text).toBe('done\nand more\n');
  });

  it('writes log lines as text or JSON, from a level on', () => {
    const text = outputTo();
    const log = text.output.log('info', () => 0).with({ volume: 'v' });
    log.debug('not this');
    log.info('an event', { reason: 'two words', none: undefined });
    expect(text.stderr.text).toBe(
      '1970-01-01T00:00:00.000Z info  an event volume=v reason="two words"\n',
    );
    const json = outputTo({ json: true });
    json.output.log('debug', () => 0).debug('this', { count: 1 });
    expect(JSON.parse(json.stderr.text)).toEqual({
      time: '1970-01-01T00:00:00.000Z',
      level: 'debug',
      message: 'this',
      count: 1,
    });
  });

  it('lays tables out', () => {
    const columns = [{ header: 'NAME' }, { header: 'SIZE', align: 'right' }] as const;
    const rows = [
      ['a', '1GiB'],
      ['longer', '512MiB'],
    ];
    expect(table(columns, rows)).toBe('NAME      SIZE\na         1GiB\nlonger  512MiB\n');
    expect(
      fields([
        ['id', '1'],
        ['name', 'a'],
      ]),
    ).toBe('id    1\nname  a\n');
  });
});
