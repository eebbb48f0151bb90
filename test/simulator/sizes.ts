/**
 * Which sizes the volume may have, in blocks: the one that was found or answered last, and those that
 * were asked for since and not answered. What was answered is never taken back by a crash.
 */
export class Sizes {
  /** Blocks of the largest that the volume can become. */
  readonly maximum: number;
  private known: number;
  private readonly asked = new Set<number>();
  /** What is asked for from outside, whoever has the volume meanwhile. */
  private readonly operator = new Set<number>();
  /** Counts up whenever the size was found. */
  private looks = 0;

  constructor(maximum: number, known: number) {
    this.maximum = maximum;
    this.known = known;
  }

  /** The largest that it may have now or any moment: nobody asks for less when growing. */
  get largest(): number {
    return Math.max(this.known, ...this.asked, ...this.operator);
  }

  /** The writer was asked; the result is told of the answer. */
  ask(blocks: number): () => void {
    this.asked.add(blocks);
    return () => {
      this.known = blocks;
      this.asked.clear();
    };
  }

  /** Likewise of a volume that nobody has; `over` is told that no more comes of it. */
  askOutside(blocks: number): { answered: () => void; over: () => void } {
    this.operator.add(blocks);
    const { looks } = this;
    return {
      answered: () => {
        // Else it may have been changed again since.
        if (looks === this.looks) this.known = blocks;
      },
      over: () => {
        this.operator.delete(blocks);
        this.asked.add(blocks);
      },
    };
  }

  /** The volume was attached, and is that large. */
  found(blocks: number): void {
    if (blocks !== this.known && !this.asked.has(blocks) && !this.operator.has(blocks)) {
      const other = [...this.asked, ...this.operator].join(', ');
      throw new Error(
        `the volume came back with ${blocks} blocks, it had ${this.known} (asked for and not answered: ${other || 'nothing'})`,
      );
    }
    this.looks += 1;
    this.known = blocks;
    this.asked.clear();
  }
}
