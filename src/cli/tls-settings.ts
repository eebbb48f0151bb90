import { StorageError } from '../base/errors.ts';
import { type AccessRule, parseAccessRule } from '../host/access.ts';
import { type TlsFiles, type TlsMode } from '../host/tls-files.ts';
import type { Settings } from './configuration/keys.ts';

/** What the configuration says of TLS. */
export interface TlsSettings {
  readonly mode: TlsMode | undefined;
  readonly files: TlsFiles | undefined;
  /** `undefined`: every client that has proved who it is may do all. */
  readonly access: readonly AccessRule[] | undefined;
}

/** `usage` when the keys contradict each other. */
export function tlsSettingsOf(settings: Settings): TlsSettings {
  const certificate = settings['tls.certificate'];
  const key = settings['tls.key'];
  const clientAuthority = settings['tls.client_ca'];
  const preSharedKeys = settings['tls.psk_file'];
  const mode = settings['tls.mode'];
  const rules = settings['tls.access'];
  if ((certificate === undefined) !== (key === undefined)) {
    throw usage('tls.certificate and tls.key are used together: set both');
  }
  if (certificate !== undefined && preSharedKeys !== undefined) {
    throw usage('a daemon has tls.certificate or tls.psk_file, not both');
  }
  if (clientAuthority !== undefined && certificate === undefined) {
    throw usage('tls.client_ca is used together with tls.certificate and tls.key: set them too');
  }
  const hasFiles = certificate !== undefined || preSharedKeys !== undefined;
  if (!hasFiles && mode !== undefined && mode !== 'off') {
    throw usage(`tls.mode is "${mode}", and there is neither tls.certificate nor tls.psk_file`);
  }
  if (rules !== undefined && clientAuthority === undefined && preSharedKeys === undefined) {
    throw usage(
      'tls.access needs clients that prove who they are: set tls.client_ca or tls.psk_file',
    );
  }
  return {
    mode,
    files: hasFiles ? { certificate, key, clientAuthority, preSharedKeys } : undefined,
    access: rules?.flatMap((rule) => parseAccessRule(rule) ?? []),
  };
}

function usage(message: string): StorageError {
  return new StorageError('usage', message);
}
