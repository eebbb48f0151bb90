/** A strict reader of Prometheus's text format 0.0.4: what it does not know for right it refuses. */
export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const metricName = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const sampleLine = new RegExp(
  String.raw`^(${metricName})(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)$`,
);

/** The families by name. Throws, naming the line, at whatever a scraper could stumble over. */
export function parseExposition(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the text does not end with a line feed');
  const families = new Map<string, Family>();
  let help: { name: string; text: string } | undefined;
  let family: Family | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const [, keyword, name = '', rest = ''] =
      new RegExp(`^# (HELP|TYPE) (${metricName}) (.+)$`).exec(line) ?? [];
    if (keyword === 'HELP') {
      if (families.has(name)) throw new Error(`${name} is there twice`);
      help = { name, text: rest };
    } else if (keyword === 'TYPE') {
      if (help?.name !== name) throw new Error(`the type of ${name} does not follow its help`);
      if (!['counter', 'gauge', 'histogram'].includes(rest)) throw new Error(`type ${rest}`);
      family = { name, type: rest, help: help.text, samples: [] };
      families.set(name, family);
    } else {
      if (family === undefined) throw new Error(`no family for: ${line}`);
      family.samples.push(parseSample(line, family));
    }
  }
  for (const each of families.values()) requireWellMade(each);
  return families;
}

function parseSample(line: string, family: Family): Sample {
  const match = sampleLine.exec(line);
  if (match === null) throw new Error(`not a sample: ${line}`);
  const [, name = '', inside = '', number = ''] = match;
  const suffix = name.slice(family.name.length);
  const suffixes = family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  if (!name.startsWith(family.name) || !suffixes.includes(suffix)) {
    throw new Error(`${name} does not belong to ${family.name}`);
  }
  const labels: Record<string, string> = {};
  for (const [, label = '', escaped = ''] of inside.matchAll(
    /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g,
  )) {
    if (label in labels) throw new Error(`label ${label} is there twice: ${line}`);
    labels[label] = escaped.replaceAll(/\\(.)/g, (_, what: string) => (what === 'n' ? '\n' : what));
  }
  const value = number === '+Inf' ? Number.POSITIVE_INFINITY : Number(number);
  if (Number.isNaN(value)) throw new Error(`not a number: ${line}`);
  return { name, labels, value };
}

function requireWellMade(family: Family): void {
  const { name, type, samples } = family;
  const keys = samples.map((sample) => `${sample.name} ${JSON.stringify(sample.labels)}`);
  if (new Set(keys).size !== keys.length) throw new Error(`${name} has a sample twice`);
  if ((type === 'counter') !== name.endsWith('_total')) {
    throw new Error(`${name} is a ${type}: counters, and no others, end in _total`);
  }
  if (type === 'counter' && samples.some(({ value }) => value < 0)) throw new Error(`${name} < 0`);
  if (type === 'histogram') requireHistogram(family);
}

function requireHistogram({ name, samples }: Family): void {
  if (!name.endsWith('_seconds')) throw new Error(`${name} has no unit`);
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels;
    const key = JSON.stringify(labels);
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  for (const [key, group] of groups) {
    const buckets = group.filter((sample) => sample.name.endsWith('_bucket'));
    const bounds = buckets.map(({ labels }) =>
      labels['le'] === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels['le']),
    );
    const rises = (numbers: number[], least: number): boolean =>
      numbers.every((number, at) => at === 0 || number - (numbers[at - 1] ?? 0) >= least);
    const count = group.find((sample) => sample.name.endsWith('_count'))?.value;
    const whole =
      bounds.at(-1) === Number.POSITIVE_INFINITY &&
      rises(bounds, Number.MIN_VALUE) &&
      rises(
        buckets.map(({ value }) => value),
        0,
      ) &&
      buckets.at(-1)?.value === count &&
      group.length === buckets.length + 2;
    if (!whole) throw new Error(`the histogram ${name}${key} contradicts itself`);
  }
}

/** The value of the one sample of that name and labels. */
export function valueOf(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  const family = families.get(name.replace(/_(bucket|sum|count)$/, '')) ?? families.get(name);
  const found = family?.samples.filter(
    (sample) =>
      sample.name === name &&
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  const [only, ...others] = found ?? [];
  if (only === undefined || others.length > 0) {
    throw new Error(`${found?.length ?? 0} samples of ${name} ${JSON.stringify(labels)}`);
  }
  return only.value;
}
