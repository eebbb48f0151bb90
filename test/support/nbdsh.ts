import { type ProgramResult, run } from './programs.ts';

/**
 * Runs Python code with `h`, a libnbd handle that is connected to the URI. Python is the system's
 * own: that is whom Debian gives the `nbd` module.
 */
export function nbdsh(uri: string, code: string): Promise<ProgramResult> {
  const connected = `import nbd\nh = nbd.NBD()\nh.add_meta_context("base:allocation")\nh.connect_uri(${JSON.stringify(uri)})\n`;
  return run('/usr/bin/python3', ['-c', connected + code]);
}
