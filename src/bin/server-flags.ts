/**
 * What Node is to be started with for a daemon: settings of V8 that can only be made at the start. A
 * daemon moves data all the time; V8's usual young generation grows to 100 MiB by that, and nothing
 * is faster for it.
 */
export const lastingFlags: readonly string[] = ['--max-semi-space-size=4'];

/**
 * And those of the V8 that is running, which another may not know. V8 else lets a heap grow to four times
 * what is alive in it before it collects all of it: 60 MiB more under load. Set while it runs, this one
 * has made one process of 250 wait for ever.
 */
export const serverFlags: readonly string[] = [
  ...lastingFlags,
  ...(process.versions.v8.startsWith('13.') ? ['--memory-saver-mode'] : []),
];

/**
 * And in what environment: glibc gives each thread that allocates an arena of its own, eight for a
 * processor, and gives little of them back.
 */
export const serverEnvironment: Readonly<Record<string, string>> = { MALLOC_ARENA_MAX: '2' };

/**
 * The flags that a process lacks which is about to serve: it replaces itself by one that has them.
 * Sockets that a supervisor passed do not survive that; it is told the flags with the command.
 */
export function missingServerFlags(
  commandLine: readonly string[],
  nodeFlags: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): string[] {
  const isServer = commandLine.slice(2).includes('serve');
  if (!isServer || environment['LISTEN_FDS'] !== undefined) return [];
  return serverFlags.filter((flag) => !nodeFlags.includes(flag));
}
