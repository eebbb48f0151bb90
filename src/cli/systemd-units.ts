import type { ListenAddress } from '../host/listen-address.ts';

export interface UnitOptions {
  /** What starts ElasticDrive: Node and the script, by their paths. */
  readonly command: readonly string[];
  readonly configFile: string;
  readonly listen: readonly ListenAddress[];
  /** The user to run as; `undefined` lets systemd make one up. */
  readonly user: string | undefined;
  /** Directories that are stores: the only places outside the state that are written. */
  readonly directories: readonly string[];
}

export interface Unit {
  readonly name: string;
  readonly text: string;
}

/** The units of a supervised `serve`: the service, its sockets, and a proxy for each kernel client. */
export function systemdUnits(options: UnitOptions): Unit[] {
  return [
    { name: 'elasticdrive.service', text: service(options) },
    { name: 'elasticdrive.socket', text: socket(options) },
    { name: 'elasticdrive-proxy@.service', text: proxyService(options) },
  ];
}

function service(options: UnitOptions): string {
  const { command, configFile, directories } = options;
  return `[Unit]
Description=ElasticDrive: disks in object storage, over NBD
Wants=network-online.target remote-fs-pre.target
After=network-online.target local-fs.target
# File systems on its volumes are mounted after it has started and unmounted before it stops.
Before=remote-fs-pre.target
Requires=elasticdrive.socket
StartLimitIntervalSec=0

[Service]
Type=notify
# The messages come from systemd-notify, a child of the service.
NotifyAccess=all
ExecStart=${words([...command, 'serve', '--config', configFile])}
# Less memory lost to glibc's arenas, one for each thread.
Environment=MALLOC_ARENA_MAX=2
# For credentials of the store: AWS_ACCESS_KEY_ID=... and so on; for root alone to read.
EnvironmentFile=-/etc/elasticdrive/environment
Restart=always
RestartSec=1
TimeoutStartSec=10min
# A stop uploads everything. What it cannot upload in this time is in the journal.
TimeoutStopSec=5min
# Only the daemon is asked to end: what it is telling systemd just then must get there.
KillMode=mixed
WatchdogSec=60
StateDirectory=elasticdrive
StateDirectoryMode=0700
LimitNOFILE=65536
# What is in memory may be keys: no copy of it is written when something goes wrong.
LimitCORE=0
# Whoever is killed for memory, it should not be the one whose clients wait for their disk.
OOMScoreAdjust=-900
${sandbox(options)}${directories.map((each) => `ReadWritePaths=${word(each)}\n`).join('')}
[Install]
WantedBy=multi-user.target
`;
}

function socket({ listen }: UnitOptions): string {
  const streams = listen.map((address) => `ListenStream=${streamOf(address)}\n`).join('');
  return `[Unit]
Description=Where clients of ElasticDrive connect
# It stays open while the service restarts: clients that connect meanwhile wait.

[Socket]
${streams}SocketMode=0660
SocketGroup=disk
Backlog=1024

[Install]
WantedBy=sockets.target
`;
}

function proxyService(options: UnitOptions): string {
  const { command, listen } = options;
  const upstream = listen[0] ?? { kind: 'tcp', host: '127.0.0.1', port: 10_809 };
  const uri =
    upstream.kind === 'unix'
      ? `nbd+unix:///%I?socket=${escaped(encodeURI(upstream.path))}`
      : `nbd://${streamOf(upstream)}/%I`;
  const at = 'nbd+unix:///run/elasticdrive-proxy/%i/nbd.sock';
  const line = `${words([...command, 'proxy'])} ${uri} --at ${at}`;
  return `[Unit]
Description=ElasticDrive volume %I, through every restart of its server
Wants=remote-fs-pre.target
# Not bound to the service: it is what stays when that restarts.
After=elasticdrive.service
Before=remote-fs-pre.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
ExecStart=${line}
# It ends by itself only while it has never reached its server.
Restart=on-failure
RestartSec=2
TimeoutStopSec=5min
KillMode=mixed
OOMScoreAdjust=-900
RuntimeDirectory=elasticdrive-proxy/%i
SupplementaryGroups=disk
${sandbox(options)}
[Install]
WantedBy=multi-user.target
`;
}

/** Nothing but the network, its own state, and what it reads to run. */
function sandbox({ command, configFile, user }: UnitOptions): string {
  const inHome = [...command, configFile].some((path) => /^\/(?:home|root|run\/user)\//.test(path));
  const protectHome = inHome ? 'read-only' : 'yes';
  return `${user === undefined ? 'DynamicUser=yes' : `User=${word(user)}`}
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=${protectHome}
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset=all
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
`;
}

function streamOf(address: ListenAddress): string {
  if (address.kind === 'unix') return escaped(address.path);
  const host = address.host === 'localhost' ? '127.0.0.1' : address.host;
  return `${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}

function words(texts: readonly string[]): string {
  return texts.map(word).join(' ');
}

/** One word of a unit's line: quoted where it has to be. */
function word(text: string): string {
  const plain = escaped(text);
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `"${plain.replaceAll(/["\\]/g, '\\$&')}"`;
}

/** `%` begins a specifier. */
function escaped(text: string): string {
  return text.replaceAll('%', '%%');
}
