/** What an object of a volume is there for. */
export type Standing =
  /** The manifest, or what it leads to. */
  | 'referenced'
  /** What was needed once: it is deleted some time after that. */
  | 'superseded'
  /** Of the present writer, ahead of what the manifest says. */
  | 'waiting'
  /** Of a closed epoch, past its end: never read, left by a writer that crashed or was followed. */
  | 'orphaned'
  /** Nothing that a writer of this volume would have put there. */
  | 'unknown';

export interface ObjectCount {
  objects: number;
  bytes: number;
}

export interface CheckProblem {
  /** `damage`: something is lost or contradicts itself; `warning`: nothing that is read is wrong. */
  readonly severity: 'damage' | 'warning';
  readonly what:
    | 'missing' // an object that is referenced is not there
    | 'damaged' // an object fails a checksum, or is not what its name says
    | 'disagrees' // the map and the log say different things
    | 'unknown' // an object that no writer of this volume would have put there
    | 'orphaned';
  /** The object's key, where it is about one. */
  readonly object: string | undefined;
  /** One sentence. */
  readonly message: string;
}

/** Consecutive blocks of the volume that cannot be read, and the object that should hold them. */
export interface LostRange {
  readonly firstBlock: number;
  readonly count: number;
  readonly object: string;
}

/** Part `part` of `parts` of the data, from 1; 1 of 1 is all. */
export interface DataPart {
  readonly part: number;
  readonly parts: number;
}

/** What of the stored map of the head cannot be read. */
export interface Unreadable {
  readonly pageTable: boolean;
  readonly pages: readonly number[];
}

/** What was checked, and what lies there. */
export interface CheckedVolume {
  readonly volume: string;
  readonly id: string;
  readonly epoch: number;
  /** Where the volume was attached when the check began. */
  readonly attachedOn: string | undefined;
  readonly headSegment: number;
  readonly lastSegment: number;
  readonly objects: Readonly<Record<Standing, Readonly<ObjectCount>>>;
  /** Which part of the data was read, if any. */
  readonly dataRead: DataPart | undefined;
}

export interface CheckReport extends CheckedVolume {
  /** What was read and verified. */
  readonly segments: number;
  readonly pages: number;
  readonly readBytes: number;
  /** The first of each kind; the counts are of all. */
  readonly problems: readonly CheckProblem[];
  readonly damageCount: number;
  readonly warningCount: number;
  /** The first of them. */
  readonly lost: readonly LostRange[];
  readonly lostBlocks: number;
  readonly unreadable: Unreadable;
  readonly verdict: 'ok' | 'warnings' | 'damaged';
}

/** How many problems and ranges are told apart; more are only counted. */
const listedMaximum = 1000;

/** Gathers what a check finds; its memory has a bound however much is wrong. */
export class Findings {
  readonly problems: CheckProblem[] = [];
  readonly lost: LostRange[] = [];
  damageCount = 0;
  warningCount = 0;
  lostBlocks = 0;
  pageTableUnreadable = false;
  readonly unreadablePages: number[] = [];
  readBytes = 0;
  segments = 0;
  pages = 0;

  damage(what: CheckProblem['what'], object: string | undefined, message: string): void {
    this.damageCount += 1;
    this.add({ severity: 'damage', what, object, message });
  }

  warning(what: CheckProblem['what'], object: string | undefined, message: string): void {
    this.warningCount += 1;
    this.add({ severity: 'warning', what, object, message });
  }

  private add(problem: CheckProblem): void {
    if (this.problems.length < listedMaximum) this.problems.push(problem);
  }

  /** Blocks that cannot be read. */
  lose(firstBlock: number, count: number, object: string): void {
    this.lostBlocks += count;
    const before = this.lost.at(-1);
    if (before?.object === object && before.firstBlock + before.count === firstBlock) {
      this.lost[this.lost.length - 1] = { ...before, count: before.count + count };
    } else if (this.lost.length < listedMaximum) {
      this.lost.push({ firstBlock, count, object });
    }
  }

  /** The ranges that cannot be read, in the order of the volume. */
  private lostInOrder(): LostRange[] {
    return [...this.lost].sort((a, b) => a.firstBlock - b.firstBlock);
  }

  /** What of the report these findings are. */
  summary(): Omit<CheckReport, keyof CheckedVolume> {
    const { segments, pages, readBytes, problems, damageCount, warningCount, lostBlocks } = this;
    return {
      ...{ segments, pages, readBytes, problems, damageCount, warningCount, lostBlocks },
      lost: this.lostInOrder(),
      unreadable: { pageTable: this.pageTableUnreadable, pages: this.unreadablePages },
      verdict: this.verdict,
    };
  }

  private get verdict(): CheckReport['verdict'] {
    if (this.damageCount > 0) return 'damaged';
    return this.warningCount > 0 ? 'warnings' : 'ok';
  }
}
