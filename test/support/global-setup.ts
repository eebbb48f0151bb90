/**
 * What all test files share: one S3 server. It is started when the first test asks for it, through a
 * small server of this process whose address every test worker is given, and stopped after the last.
 */
import { createServer, type Server as HttpServer } from 'node:http';
import type { TestProject } from 'vitest/node';
import { missingRgw, type Rgw, startRgw } from './rgw.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where `sharedS3` asks for the server. */
    sharedServersUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let rgw: Promise<Rgw> | undefined;
  const broker = createServer((_, response) => {
    const missing = missingRgw();
    if (missing !== undefined) {
      response.end(JSON.stringify({ missing }));
      return;
    }
    rgw ??= startRgw();
    rgw.then(
      ({ endpoint, accessKeyId, secretAccessKey }) => {
        response.end(JSON.stringify({ endpoint, accessKeyId, secretAccessKey }));
      },
      (error: unknown) => {
        response.end(JSON.stringify({ failure: String(error) }));
      },
    );
  });
  project.provide('sharedServersUrl', await listen(broker));
  return async () => {
    broker.closeAllConnections();
    broker.close();
    await (await rgw?.catch(() => undefined))?.stop();
  };
}

function listen(server: HttpServer): Promise<string> {
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (typeof address !== 'object' || address === null) reject(new Error('no address'));
      else resolve(`http://127.0.0.1:${address.port}`);
    });
  });
}
