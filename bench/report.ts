/** Medians, ratios and the table of them. */
import { median } from './measure.ts';

export type Unit = 'IOPS' | 'bytes/s' | 'µs' | 'requests/GiB' | 'bytes/byte';

/** One measurement of one contender. */
export interface Sample {
  readonly row: string;
  readonly unit: Unit;
  readonly column: string;
  readonly value: number;
}

export interface Sheet {
  readonly title: string;
  /** The column that the others are compared with. */
  readonly ours: string;
  readonly samples: readonly Sample[];
}

export interface Row {
  readonly row: string;
  readonly unit: Unit;
  readonly medians: Readonly<Record<string, number>>;
  /** Ours divided by the other's. */
  readonly ratios: Readonly<Record<string, number>>;
}

export function rowsOf({ samples, ours }: Sheet): Row[] {
  const byRow = Map.groupBy(samples, ({ row }) => row);
  return [...byRow].map(([row, ofRow]) => {
    const byColumn = Map.groupBy(ofRow, ({ column }) => column);
    const medians = Object.fromEntries(
      [...byColumn].map(([column, of]) => [column, median(of.map(({ value }) => value))]),
    );
    const own = medians[ours];
    const others = Object.entries(medians).filter(([column]) => column !== ours);
    const ratios = own === undefined ? [] : others.map(([column, value]) => [column, own / value]);
    return {
      row,
      unit: ofRow[0]?.unit ?? 'IOPS',
      medians,
      ratios: Object.fromEntries(ratios) as Record<string, number>,
    };
  });
}

export function table(sheet: Sheet): string {
  const rows = rowsOf(sheet);
  const columns = [...new Set(sheet.samples.map(({ column }) => column))].sort(
    (a, b) => Number(b === sheet.ours) - Number(a === sheet.ours),
  );
  const lines = rows.map(({ row, unit, medians, ratios }) => [
    row,
    ...columns.map((column) => {
      const value = medians[column];
      const ratio = ratios[column];
      if (value === undefined) return '';
      return format(value, unit) + (ratio === undefined ? '' : ` (${ratio.toFixed(2)} ×)`);
    }),
  ]);
  return `## ${sheet.title}\n\n${aligned([['', ...columns], ...lines])}\n`;
}

function aligned(cells: readonly (readonly string[])[]): string {
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(3, ...cells.map((line) => line[column]?.length ?? 0)),
  );
  const lines = cells.map(
    (line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  lines.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`);
  return lines.join('\n');
}

function format(value: number, unit: Unit): string {
  switch (unit) {
    case 'IOPS':
      return value >= 10_000 ? `${(value / 1_000).toFixed(1)} k/s` : `${value.toFixed(0)} /s`;
    case 'bytes/s':
      return `${(value / 2 ** 20).toFixed(0)} MiB/s`;
    case 'µs':
      return `${value.toFixed(0)} µs`;
    case 'requests/GiB':
      return `${value.toFixed(0)} /GiB`;
    case 'bytes/byte':
      return `${value.toFixed(3)} B/B`;
  }
}

/** What was promised: in `row`, ours against `against` at least or at most `bound`. */
export interface Goal {
  readonly says: string;
  readonly row: string;
  /** The other column, or none for a bound on our own figure. */
  readonly against?: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

export interface Verdict extends Goal {
  readonly measured: number | undefined;
  readonly met: boolean;
}

export function judge(goals: readonly Goal[], sheets: readonly Sheet[]): Verdict[] {
  return goals.map((goal) => {
    const candidates = sheets.flatMap((sheet) =>
      rowsOf(sheet)
        .filter(({ row }) => row === goal.row)
        .map(({ medians, ratios }) =>
          goal.against === undefined ? medians[sheet.ours] : ratios[goal.against],
        ),
    );
    const measured = candidates.find((value) => value !== undefined);
    const met =
      measured !== undefined &&
      measured >= (goal.atLeast ?? Number.NEGATIVE_INFINITY) &&
      measured <= (goal.atMost ?? Number.POSITIVE_INFINITY);
    return { ...goal, measured, met };
  });
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  const lines = verdicts.map(({ says, measured, met }) => [
    says,
    measured === undefined ? 'not measured' : measured.toFixed(2),
    measured === undefined ? '' : met ? 'yes' : 'no',
  ]);
  return `## Goals\n\n${aligned([['goal', 'measured', 'met'], ...lines])}\n`;
}

/** Something that must not be more than it may. */
export interface Limit {
  readonly says: string;
  readonly value: number;
  readonly unit: string;
  readonly atMost: number;
}

export function limitTable(limits: readonly Limit[]): string {
  const lines = limits.map(({ says, value, unit, atMost }) => {
    const verdict = value <= atMost ? 'kept' : 'BROKEN';
    return `  ${says.padEnd(32)} ${value.toFixed(1).padStart(8)} ${unit.padEnd(4)} of ${atMost.toFixed(0)} ${unit}: ${verdict}`;
  });
  return `Limits\n${lines.join('\n')}\n`;
}
