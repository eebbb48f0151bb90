import { spawn } from 'node:child_process';

/**
 * Tells systemd how this process is. Node has no datagram sockets of the Unix kind; systemd's own
 * program has, and is there wherever systemd is. Resolves with whether it could be told.
 */
export function notifySystemd(assignments: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('systemd-notify', assignments, { stdio: 'ignore' });
    child.once('error', () => resolve(false));
    child.once('close', (status) => resolve(status === 0));
  });
}
