import type { DurationCounts } from '../base/histogram.ts';

/** Prometheus's text format, as its version says. */
export const expositionType = 'text/plain; version=0.0.4; charset=utf-8';

export type Labels = Readonly<Record<string, string>>;

/** Writes metrics family by family: a family's samples stand together under its help and type. */
export class Exposition {
  private readonly lines: string[] = [];

  counter(name: string, help: string, samples: Iterable<readonly [Labels, number]>): void {
    this.plain('counter', name, help, samples);
  }

  gauge(name: string, help: string, samples: Iterable<readonly [Labels, number]>): void {
    this.plain('gauge', name, help, samples);
  }

  private plain(
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    samples: Iterable<readonly [Labels, number]>,
  ): void {
    this.begin(type, name, help);
    for (const [labels, value] of samples) this.sample(name, labels, value);
  }

  /** `name` ends in `_seconds`. */
  durations(
    name: string,
    help: string,
    samples: Iterable<readonly [Labels, DurationCounts]>,
  ): void {
    this.begin('histogram', name, help);
    for (const [labels, { boundsMs, counts, totalMs }] of samples) {
      let sum = 0;
      counts.forEach((count, bucket) => {
        sum += count;
        const boundMs = boundsMs[bucket];
        const le = boundMs === undefined ? '+Inf' : String(boundMs / 1000);
        this.sample(`${name}_bucket`, { ...labels, le }, sum);
      });
      this.sample(`${name}_sum`, labels, totalMs / 1000);
      this.sample(`${name}_count`, labels, sum);
    }
  }

  private begin(type: string, name: string, help: string): void {
    const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
    this.lines.push(`# HELP ${name} ${escaped}`, `# TYPE ${name} ${type}`);
  }

  private sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
    const braces = pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
    this.lines.push(`${name}${braces} ${value}`);
  }

  get text(): string {
    return `${this.lines.join('\n')}\n`;
  }
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
