/** A request that changes the device; the payload is a write's. */
export interface Change {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly payload?: Uint8Array;
}

/** A change in the order of its asking. */
export interface KeptChange {
  change: Change;
  answered: boolean;
  /** Of another flush's time, or failed: it is not written again. */
  dropped: boolean;
}

/** So many go to the server at once. */
const groupCount = 64;

/**
 * What a server has answered and may still lose: every change since the last flush that covered it,
 * with a copy of its data, in the order of asking.
 */
export class UnflushedChanges {
  private kept: KeptChange[] = [];
  private keptBytes = 0;
  private readonly limitBytes: number;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** Whether a flush is due. */
  get isFull(): boolean {
    return this.keptBytes > this.limitBytes;
  }

  /** Whether nothing more should be answered before it is done. */
  get isOverfull(): boolean {
    return this.keptBytes > 2 * this.limitBytes;
  }

  begin(change: Change): KeptChange {
    const kept = { change, answered: false, dropped: false };
    this.kept.push(kept);
    return kept;
  }

  /** The server took it; the data are copied, for their owner uses the memory again. */
  answered(kept: KeptChange): void {
    const { payload } = kept.change;
    kept.answered = true;
    // Not `slice`: that of a Buffer is no copy.
    if (payload !== undefined) kept.change = { ...kept.change, payload: new Uint8Array(payload) };
    this.keptBytes += payload?.length ?? 0;
  }

  forget(kept: KeptChange): void {
    kept.dropped = true;
    this.kept = this.kept.filter((each) => each !== kept);
  }

  /** What a flush that is asked for now will cover. */
  mark(): ReadonlySet<KeptChange> {
    return new Set(this.kept.filter((each) => each.answered));
  }

  flushed(covered: ReadonlySet<KeptChange>): void {
    this.kept = this.kept.filter((each) => {
      if (!covered.has(each) || each.dropped) return !each.dropped;
      this.keptBytes -= each.change.payload?.length ?? 0;
      return false;
    });
  }

  /** All that was answered, in groups whose members do not overlap. */
  *inOrder(): Generator<Change[]> {
    let group: Change[] = [];
    for (const { change, answered } of [...this.kept]) {
      if (!answered) continue;
      if (group.length === groupCount || group.some((other) => overlap(change, other))) {
        yield group;
        group = [];
      }
      group.push(change);
    }
    if (group.length > 0) yield group;
  }
}

function overlap(a: Change, b: Change): boolean {
  return a.offset < b.offset + b.lengthBytes && b.offset < a.offset + a.lengthBytes;
}
