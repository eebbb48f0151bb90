import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { parseListenAddress } from '../../host/listen-address.ts';
import { storesOf } from '../configuration/places.ts';
import { systemdUnits, type Unit } from '../systemd-units.ts';
import type { Invocation, Noun } from '../verb.ts';

export const systemdNoun: Noun = {
  name: 'systemd',
  summary: 'Run under systemd',
  verbs: [
    {
      name: 'install',
      summary: 'Write the units of a supervised daemon, and of a proxy for each kernel client',
      examples: [
        ['install --print', 'look at what would be written'],
        ['install --config /etc/elasticdrive/config.toml', 'write them to /etc/systemd/system'],
        ['install --user disks', 'for stores in directories, which belong to that user'],
      ],
      options: [
        new Option('--print', 'print the units and write nothing'),
        new Option('--user <name>', 'run as this user instead of one that systemd makes up'),
        new Option('--directory <path>', 'where units are').default('/etc/systemd/system'),
      ],
      run: install,
    },
  ],
};

async function install(invocation: Invocation): Promise<undefined> {
  const { output, options, drivers } = invocation;
  const units = await unitsOf(invocation);
  if (options['print'] === true) {
    output.result({ units }, () => units.map(({ name, text }) => `# ${name}\n${text}`).join('\n'));
    return;
  }
  const directory = String(options['directory']);
  for (const { name, text } of units) {
    await drivers.writeFile(join(directory, name), text).catch((cause: unknown) => {
      const { code } = cause as NodeJS.ErrnoException;
      const message = `cannot write ${join(directory, name)} (${code}): run this as root, or see --print`;
      throw new StorageError('local-io', message, { cause });
    });
  }
  const written = units.map(({ name }) => join(directory, name));
  output.result({ written }, () =>
    [
      ...written.map((path) => `wrote ${path}`),
      '\nTo start now and at each boot:',
      '  systemctl daemon-reload && systemctl enable --now elasticdrive.socket elasticdrive.service',
      'For a kernel on this machine that is to live through restarts of the daemon:',
      '  systemctl enable --now elasticdrive-proxy@NAME',
      '  nbd-client -unix /run/elasticdrive-proxy/NAME/nbd.sock /dev/nbd0 -N NAME -b 4096\n',
    ].join('\n'),
  );
}

async function unitsOf(invocation: Invocation): Promise<Unit[]> {
  const configuration = await invocation.configuration();
  const { settings, file } = configuration;
  if (file === undefined) {
    throw new StorageError(
      'usage',
      'a service needs a configuration file: write /etc/elasticdrive/config.toml, or name one with --config',
    );
  }
  const { stores } = storesOf(configuration, invocation.workingDirectory);
  const directories = stores
    .filter(({ url }) => url.startsWith('file:'))
    .map(({ url }) => fileURLToPath(url));
  const user = invocation.options['user'] as string | undefined;
  if (directories.length > 0 && user === undefined) {
    throw new StorageError(
      'usage',
      `the store ${directories[0]} is a directory: name the user that it belongs to with --user`,
    );
  }
  const listen = settings.listen.flatMap((text) => parseListenAddress(text) ?? []);
  return systemdUnits({
    command: invocation.drivers.command,
    configFile: file,
    listen,
    user,
    directories,
  });
}
