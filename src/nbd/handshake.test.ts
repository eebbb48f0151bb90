import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../test/support/memory-device.ts';
import { StorageError } from '../base/errors.ts';
import { withoutOptionMessages } from './testing/replies.ts';
import { answerTo, type ConversationOptions, hex } from './testing/conversation.ts';

/**
 * What a client says after the greeting and what it is answered, byte for byte. A reply's message
 * for people is left out of the comparison: see `withoutOptionMessages`.
 */
interface Case {
  readonly title: string;
  readonly client: string;
  readonly server: string;
  readonly state: 'open' | 'ended' | 'cut';
  readonly options?: () => ConversationOptions;
}

const flags = '00000003'; // fixed newstyle, no zeroes
const opt = '49484156454f5054';
const rep = '0003e889045565a9';
const disk = '00000004 6469736b'; // its length and name
const size = '0000000000010000'; // 64 KiB

/** Transmission flags: has flags, flush, FUA, trim, zeroes, multi-conn, cache, fast zero. */
const simpleFlags = '0d6d';
const structuredFlags = '0ded'; // and DF
const extendedFlags = '1ded'; // and a payload for block status
const readOnlyFlags = '0d6f';

const goOk = (transmissionFlags: string): string =>
  `${rep} 00000007 00000003 0000000c 0000 ${size} ${transmissionFlags}
   ${rep} 00000007 00000001 00000000`;
const go = `${opt} 00000007 0000000a ${disk} 0000`;
const ack = (option: string): string => `${rep} ${option} 00000001 00000000`;
/** An error reply; its message is cut from what is compared. */
const error = (option: string, code: string): string => `${rep} ${option} 800000${code}`;

/** The error chunk of a block status without a context. */
const noContext = `668e33ef 0001 8001 0102030405060708 00000038 00000016 0032
  ${Buffer.from('no metadata context was negotiated for this export').toString('hex')}`;

const described = (): ConversationOptions => ({
  devices: { disk: new MemoryDevice(65_536), two: new MemoryDevice(4_096) },
  descriptions: { two: 'the second' },
});
const readOnly = (): ConversationOptions => ({ devices: { disk: new MemoryDevice(65_536, true) } });
const failing =
  (code: 'held' | 'shutting-down' | 'store-unavailable') => (): ConversationOptions => {
    const fail = async () => {
      throw new StorageError(code, 'no');
    };
    return { catalog: { list: fail, open: fail } };
  };

const cases: readonly Case[] = [
  {
    title: 'EXPORT_NAME enters transmission without zeroes when the client does not want them',
    client: `${flags} ${opt} 00000001 00000004 6469736b`,
    server: `${size} ${simpleFlags}`,
    state: 'open',
  },
  {
    title: 'EXPORT_NAME sends 124 zeroes to an old client',
    client: `00000001 ${opt} 00000001 00000004 6469736b`,
    server: `${size} ${simpleFlags} ${'00'.repeat(124)}`,
    state: 'open',
  },
  {
    title: 'a client without fixed newstyle is served EXPORT_NAME',
    client: `00000000 ${opt} 00000001 00000004 6469736b`,
    server: `${size} ${simpleFlags} ${'00'.repeat(124)}`,
    state: 'open',
  },
  {
    title: 'requests may follow EXPORT_NAME at once',
    client: `${flags} ${opt} 00000001 00000000
      25609513 0000 0003 0102030405060708 0000000000000000 00000000`,
    server: `${size} ${simpleFlags} 67446698 00000000 0102030405060708`,
    state: 'open',
  },
  {
    title: 'EXPORT_NAME of an export that is not there ends the session',
    client: `${flags} ${opt} 00000001 00000004 6e6f6e65`,
    server: '',
    state: 'cut',
  },
  {
    title: 'EXPORT_NAME with a name over 4096 bytes ends the session',
    client: `${flags} ${opt} 00000001 00001001 ${'61'.repeat(4097)}`,
    server: '',
    state: 'cut',
  },
  {
    title: 'EXPORT_NAME with option data over the limit ends the session',
    client: `${flags} ${opt} 00000001 00000040 ${'61'.repeat(64)}`,
    server: '',
    state: 'cut',
    options: () => ({ limits: { optionBytes: 63 } }),
  },
  {
    title: 'EXPORT_NAME after extended headers ends the session',
    client: `${flags} ${opt} 0000000b 00000000 ${opt} 00000001 00000004 6469736b`,
    server: ack('0000000b'),
    state: 'cut',
  },
  {
    title: 'an unknown client flag ends the session',
    client: `00000007 ${opt} 00000003 00000000`,
    server: '',
    state: 'cut',
  },
  {
    title: 'an option with a wrong magic ends the session',
    client: `${flags} 49484156454f5055 00000003 00000000`,
    server: '',
    state: 'cut',
  },
  {
    title: 'ABORT is acknowledged and the session ends, whatever data came with it',
    client: `${flags} ${opt} 00000002 00000003 010203`,
    server: ack('00000002'),
    state: 'ended',
  },
  {
    title: 'LIST names every export with its description',
    client: `${flags} ${opt} 00000003 00000000`,
    server: `${rep} 00000003 00000002 00000008 ${disk}
      ${rep} 00000003 00000002 00000011 00000003 74776f 746865207365636f6e64
      ${ack('00000003')}`,
    state: 'open',
    options: described,
  },
  {
    title: 'LIST with data is invalid and the next option is understood',
    client: `${flags} ${opt} 00000003 00000001 ff ${go}`,
    server: `${error('00000003', '03')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'LIST that fails is an error and the session goes on',
    client: `${flags} ${opt} 00000003 00000000 ${opt} 00000002 00000000`,
    server: `${error('00000003', '02')} ${ack('00000002')}`,
    state: 'ended',
    options: failing('store-unavailable'),
  },
  {
    title: 'unknown options are refused with their data skipped',
    client: `${flags} ${opt} 00000004 00000000 ${opt} 7fffffff 00000005 0102030405 ${go}`,
    server: `${error('00000004', '01')} ${error('7fffffff', '01')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'option data over the limit is skipped and the option refused as too big',
    client: `${flags} ${opt} 00000007 00000040 ${'61'.repeat(64)} ${go}`,
    server: `${error('00000007', '09')} ${goOk(simpleFlags)}`,
    state: 'open',
    options: () => ({ limits: { optionBytes: 63 } }),
  },
  {
    title: 'STARTTLS is unsupported, and what was negotiated before stays',
    client: `${flags} ${opt} 00000008 00000000 ${opt} 00000005 00000000 ${go}`,
    server: `${ack('00000008')} ${error('00000005', '01')} ${goOk(structuredFlags)}`,
    state: 'open',
  },
  {
    title: 'STARTTLS that is switched off is refused by policy',
    client: `${flags} ${opt} 00000005 00000000 ${go}`,
    server: `${error('00000005', '02')} ${goOk(simpleFlags)}`,
    state: 'open',
    options: () => ({ tls: 'forbidden' }),
  },
  {
    title: 'where TLS is required, options are refused before it, and no export is entered',
    client: `${flags} ${opt} 00000003 00000000 ${opt} 00000008 00000000 ${go} ${opt} 00000063 00000000
      ${opt} 00000002 00000000`,
    server: `${error('00000003', '05')} ${error('00000008', '05')} ${error('00000007', '05')}
      ${error('00000063', '05')} ${ack('00000002')}`,
    state: 'ended',
    options: () => ({ tls: 'required' }),
  },
  {
    title: 'where TLS is required, EXPORT_NAME before it is answered by closing the connection',
    client: `${flags} ${opt} 00000001 00000004 6469736b`,
    server: '',
    state: 'cut',
    options: () => ({ tls: 'required' }),
  },
  {
    title: 'where TLS is allowed, an export is entered without it',
    client: `${flags} ${go}`,
    server: goOk(simpleFlags),
    state: 'open',
    options: () => ({ tls: 'allowed' }),
  },
  {
    title: 'what is said between STARTTLS and the TLS handshake ends the connection',
    client: `${flags} ${opt} 00000005 00000000 ${opt} 00000008 00000000`,
    server: ack('00000005'),
    state: 'cut',
    options: () => ({ tls: 'allowed' }),
  },
  {
    title: 'STARTTLS with data is invalid',
    client: `${flags} ${opt} 00000005 00000002 0000 ${go}`,
    server: `${error('00000005', '03')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'INFO tells and does not enter; GO tells the same and enters',
    client: `${flags} ${opt} 00000006 0000000a ${disk} 0000 ${go}
      25609513 0000 0003 0102030405060708 0000000000000000 00000000`,
    server: `${rep} 00000006 00000003 0000000c 0000 ${size} ${simpleFlags} ${ack('00000006')}
      ${goOk(simpleFlags)} 67446698 00000000 0102030405060708`,
    state: 'open',
  },
  {
    title: 'GO answers the information that was asked for, unknown requests ignored',
    client: `${flags} ${opt} 00000007 00000011 00000003 74776f 0004 0001 0002 0003 7777`,
    server: `${rep} 00000007 00000003 0000000c 0000 0000000000001000 ${simpleFlags}
      ${rep} 00000007 00000003 00000005 0001 74776f
      ${rep} 00000007 00000003 0000000c 0002 746865207365636f6e64
      ${rep} 00000007 00000003 0000000e 0003 00000001 00001000 02000000
      ${ack('00000007')}`,
    state: 'open',
    options: described,
  },
  {
    title: 'GO of the empty name enters the default export and tells its name',
    client: `${flags} ${opt} 00000007 00000008 00000000 0001 0001`,
    server: `${rep} 00000007 00000003 0000000c 0000 ${size} ${simpleFlags}
      ${rep} 00000007 00000003 00000006 0001 6469736b
      ${ack('00000007')}`,
    state: 'open',
  },
  {
    title: 'GO tells that an export is read-only',
    client: `${flags} ${go}`,
    server: goOk(readOnlyFlags),
    state: 'open',
    options: readOnly,
  },
  {
    title: 'GO of an export that is not there is refused and the session goes on',
    client: `${flags} ${opt} 00000007 0000000a 00000004 6e6f6e65 0000 ${go}`,
    server: `${error('00000007', '06')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'GO of an export that another host holds is refused by policy',
    client: `${flags} ${go} ${opt} 00000002 00000000`,
    server: `${error('00000007', '02')} ${ack('00000002')}`,
    state: 'ended',
    options: failing('held'),
  },
  {
    title: 'GO of an export that shuts down says so',
    client: `${flags} ${go} ${opt} 00000002 00000000`,
    server: `${error('00000007', '07')} ${ack('00000002')}`,
    state: 'ended',
    options: failing('shutting-down'),
  },
  {
    title: 'GO with a name over 4096 bytes is invalid',
    client: `${flags} ${opt} 00000007 00001007 00001001 ${'61'.repeat(4097)} 0000 ${go}`,
    server: `${error('00000007', '03')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'GO with a name that is not UTF-8, or holds NUL, is invalid',
    client: `${flags} ${opt} 00000007 00000008 00000002 c328 0000
      ${opt} 00000007 00000008 00000002 6100 0000 ${go}`,
    server: `${error('00000007', '03')} ${error('00000007', '03')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'INFO whose lengths disagree is invalid',
    client: `${flags}
      ${opt} 00000006 0000000a 00000005 6469736b 0000 ; the name runs into the count
      ${opt} 00000006 0000000a ${disk} 0001           ; one request announced, none there
      ${opt} 00000006 0000000c ${disk} 0000 0001      ; a request too many
      ${opt} 00000006 00000000 ${go}`,
    server: `${error('00000006', '03').repeat(4)} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'STRUCTURED_REPLY is acknowledged and DF offered',
    client: `${flags} ${opt} 00000008 00000000 ${go}`,
    server: `${ack('00000008')} ${goOk(structuredFlags)}`,
    state: 'open',
  },
  {
    title: 'STRUCTURED_REPLY with data is invalid and changes nothing',
    client: `${flags} ${opt} 00000008 00000001 00 ${go}`,
    server: `${error('00000008', '03')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'STRUCTURED_REPLY after extended headers is refused',
    client: `${flags} ${opt} 0000000b 00000000 ${opt} 00000008 00000000 ${go}`,
    server: `${ack('0000000b')} ${error('00000008', '0a')} ${goOk(structuredFlags)}`,
    state: 'open',
  },
  {
    title: 'EXTENDED_HEADERS with data is invalid and changes nothing',
    client: `${flags} ${opt} 0000000b 00000001 00 ${go}`,
    server: `${error('0000000b', '03')} ${goOk(simpleFlags)}`,
    state: 'open',
  },
  {
    title: 'EXTENDED_HEADERS takes precedence over structured replies',
    client: `${flags} ${opt} 00000008 00000000 ${opt} 0000000b 00000000
      ${opt} 0000000a 0000001f ${disk} 00000001 0000000f 626173653a616c6c6f636174696f6e ${go}`,
    server: `${ack('00000008')} ${ack('0000000b')}
      ${rep} 0000000a 00000004 00000013 00000001 626173653a616c6c6f636174696f6e
      ${ack('0000000a')} ${goOk(extendedFlags)}`,
    state: 'open',
  },
  {
    title: 'LIST_META_CONTEXT lists all contexts without a query',
    client: `${flags} ${opt} 00000008 00000000 ${opt} 00000009 0000000c ${disk} 00000000`,
    server: `${ack('00000008')}
      ${rep} 00000009 00000004 00000013 00000000 626173653a616c6c6f636174696f6e
      ${ack('00000009')}`,
    state: 'open',
  },
  {
    title: 'LIST_META_CONTEXT takes base: as a wildcard and ignores other namespaces',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 00000009 0000001a ${disk} 00000002 00000005 626173653a 00000001 78`,
    server: `${ack('00000008')}
      ${rep} 00000009 00000004 00000013 00000000 626173653a616c6c6f636174696f6e
      ${ack('00000009')}`,
    state: 'open',
  },
  {
    title: 'LIST_META_CONTEXT with queries that match nothing is answered with nothing',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 00000009 0000001b ${disk} 00000001 0000000b 71656d753a64697274793a`,
    server: `${ack('00000008')} ${ack('00000009')}`,
    state: 'open',
  },
  {
    title: 'SET_META_CONTEXT selects base:allocation',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 0000000a 0000001f ${disk} 00000001 0000000f 626173653a616c6c6f636174696f6e`,
    server: `${ack('00000008')}
      ${rep} 0000000a 00000004 00000013 00000001 626173653a616c6c6f636174696f6e
      ${ack('0000000a')}`,
    state: 'open',
  },
  {
    title: 'SET_META_CONTEXT ignores base: and unknown leaf names',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 0000000a 00000020 ${disk} 00000002 00000005 626173653a 00000007 626173653a6e6f`,
    server: `${ack('00000008')} ${ack('0000000a')}`,
    state: 'open',
  },
  {
    title: 'SET_META_CONTEXT before structured replies is invalid',
    client: `${flags} ${opt} 0000000a 0000000c ${disk} 00000000
      ${opt} 00000009 0000000c ${disk} 00000000`,
    server: `${error('0000000a', '03')} ${error('00000009', '03')}`,
    state: 'open',
  },
  {
    title: 'SET_META_CONTEXT whose lengths disagree is invalid',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 0000000a 0000000d ${disk} 00000000 00           ; a byte too many
      ${opt} 0000000a 0000000c ${disk} 00000001              ; a query announced, none there
      ${opt} 0000000a 00000015 ${disk} 00000001 ffffffff 626173653a
      ${opt} 0000000a 00000004 00000004`,
    server: `${ack('00000008')} ${error('0000000a', '03').repeat(4)}`,
    state: 'open',
  },
  {
    title: 'contexts that were set for another export are not there',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 0000000a 0000001e 00000003 74776f 00000001 0000000f 626173653a616c6c6f636174696f6e
      ${go} 25609513 0000 0007 0102030405060708 0000000000000000 00001000`,
    server: `${ack('00000008')}
      ${rep} 0000000a 00000004 00000013 00000001 626173653a616c6c6f636174696f6e
      ${ack('0000000a')} ${goOk(structuredFlags)} ${noContext}`,
    state: 'open',
    options: described,
  },
  {
    title: 'a SET_META_CONTEXT that fails drops what was selected before',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 0000000a 0000001f ${disk} 00000001 0000000f 626173653a616c6c6f636174696f6e
      ${opt} 0000000a 00000000
      ${go} 25609513 0000 0007 0102030405060708 0000000000000000 00001000`,
    server: `${ack('00000008')}
      ${rep} 0000000a 00000004 00000013 00000001 626173653a616c6c6f636174696f6e
      ${ack('0000000a')} ${error('0000000a', '03')} ${goOk(structuredFlags)} ${noContext}`,
    state: 'open',
  },
  {
    title: 'SET_META_CONTEXT for an export that is not there is refused',
    client: `${flags} ${opt} 00000008 00000000
      ${opt} 0000000a 0000000c 00000004 6e6f6e65 00000000`,
    server: `${ack('00000008')} ${error('0000000a', '06')}`,
    state: 'open',
  },
  {
    title: 'options are refused while the server shuts down, ABORT is not',
    client: `${flags} ${go} ${opt} 00000002 00000000`,
    server: `${error('00000007', '07')} ${ack('00000002')}`,
    state: 'ended',
    options: () => ({ isShuttingDown: () => true }),
  },
  {
    title: 'EXPORT_NAME while the server shuts down ends the session',
    client: `${flags} ${opt} 00000001 00000000`,
    server: '',
    state: 'cut',
    options: () => ({ isShuttingDown: () => true }),
  },
];

/** Every position for what is short; for the long names, around what matters. */
function cutsOf(count: number): number[] {
  const all = Array.from({ length: count + 1 }, (_, index) => index);
  return count < 300 ? all : all.filter((at) => at < 40 || at > count - 40);
}

describe('the handshake, byte for byte and cut at every byte', () => {
  it.each(cases)('$title', async ({ client, server, state, options }) => {
    const bytes = hex(client);
    const expected = hex(server).toString('hex');
    for (const cutAt of cutsOf(bytes.length)) {
      const found = await answerTo(bytes, cutAt, options?.());
      const answer = withoutOptionMessages(Buffer.from(found.answer, 'hex'));
      // A server that shuts down may close between two parts of what a client says.
      if (options?.().isShuttingDown?.() === true && cutAt < bytes.length) continue;
      expect({ cutAt, answer, state: found.state }).toEqual({ cutAt, answer: expected, state });
    }
  });
});
