import type { Daemon } from '../host/daemon.ts';
import { exportUri, formatListenAddress, type ListenAddress } from '../host/listen-address.ts';
import { tlsModeOf } from '../host/tls-files.ts';
import type { TlsSettings } from './tls-settings.ts';
import type { Invocation } from './verb.ts';

/** Says what is served, and for people how to use it. */
export async function announce(
  daemon: Daemon,
  { output, version }: Invocation,
  tls: TlsSettings,
): Promise<void> {
  const schemeOf = (address: ListenAddress): Scheme => schemeFor(address, tls);
  const { addresses, catalog, controlSocketPath } = daemon;
  const volumes = await catalog.volumes();
  const { pid, stateDirectory, metrics } = daemon.status();
  const [address] = addresses;
  const data = {
    version,
    pid,
    stateDirectory,
    controlSocket: controlSocketPath,
    listening: addresses.map(formatListenAddress),
    metrics,
    volumes: volumes.map(({ name }) => ({
      name,
      uris: addresses.map((each) => exportUri(each, name, schemeOf(each))),
    })),
  };
  output.result(data, () => {
    const [volume] = volumes;
    const lines = data.volumes.flatMap(({ uris }, index) =>
      uris.map((uri) => `  ${uri}  (${volumes[index]?.description})\n`),
    );
    const none = '  no volume yet: make one with "elasticdrive volume create NAME --size SIZE"\n';
    const watched = metrics === undefined ? '' : `  ${metrics}/metrics\n`;
    const served = `${lines.join('') || none}${watched}`;
    const head = `ElasticDrive ${version} serves, until Ctrl-C:\n${served}`;
    return volume === undefined || address === undefined
      ? head
      : `${head}\nTo use ${volume.name}:\n${pasteLines(address, volume.name, schemeOf(address))}`;
  });
}

type Scheme = 'nbd' | 'nbds';

/** Whether clients of the address are told to use TLS. */
function schemeFor(address: ListenAddress, { mode, files }: TlsSettings): Scheme {
  return tlsModeOf(address, mode, files) === 'required' ? 'nbds' : 'nbd';
}

/** Commands to paste, for the clients that people have. */
export function pasteLines(address: ListenAddress, name: string, scheme: Scheme = 'nbd'): string {
  const isSecure = scheme === 'nbds';
  const bare = exportUri(address, name, scheme);
  const uri = isSecure ? `${bare}${bare.includes('?') ? '&' : '?'}tls-certificates=DIR` : bare;
  const quotedUri = uri.includes('?') ? `'${uri}'` : uri;
  const where =
    address.kind === 'unix' ? `-unix ${address.path}` : `${address.host} ${address.port}`;
  const certificates =
    ' -x -F DIR/client-cert.pem -K DIR/client-key.pem -A DIR/ca-cert.pem -H SERVER';
  return [
    ...(isSecure ? ['  # DIR has ca-cert.pem, client-cert.pem and client-key.pem'] : []),
    `  nbdinfo ${quotedUri}`,
    ...(isSecure ? [] : [`  qemu-img info ${quotedUri}`]),
    `  sudo modprobe nbd && sudo nbd-client ${where} /dev/nbd0 -N ${name} -b 4096${isSecure ? certificates : ''}`,
    `  mkdir -p ${name} && nbdfuse ${name} ${quotedUri}`,
    '',
  ].join('\n');
}
