/** Where the metrics are served: `http://127.0.0.1:9810`. */
export interface MetricsAddress {
  readonly host: string;
  readonly port: number;
}

export const metricsAddressHint = 'an address such as "http://127.0.0.1:9810", without a path';

/** `undefined` when the text is no such address. Port 0 lets the kernel choose. */
export function parseMetricsAddress(text: string): MetricsAddress | undefined {
  const match = /^http:\/\/(\[[0-9a-fA-F:.]+\]|[^:/?#@\s[\]]+):(\d{1,5})\/?$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) return undefined;
  return { host: match[1].replaceAll(/[[\]]/g, ''), port };
}

export function formatMetricsAddress({ host, port }: MetricsAddress): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
