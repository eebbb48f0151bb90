import type { Scheduler } from './scheduler.ts';

const shownLines = 4000;

/**
 * What happened, as a number that two runs of one seed share, and, when asked for, as the last lines
 * for people. Lines are made only when they are shown: most runs fail nothing.
 */
export class Trace {
  hash = 0x811c9dc5;
  private readonly scheduler: Scheduler;
  private readonly isShown: boolean;
  readonly lines: string[] = [];

  constructor(scheduler: Scheduler, isShown: boolean) {
    this.scheduler = scheduler;
    this.isShown = isShown;
  }

  add(what: string, about: string, value: number): void {
    let { hash } = this;
    hash = Math.imul(hash ^ what.charCodeAt(0) ^ (what.length << 8), 0x01000193);
    for (let at = Math.max(0, about.length - 12); at < about.length; at += 1) {
      hash = Math.imul(hash ^ about.charCodeAt(at), 0x01000193);
    }
    hash = Math.imul(hash ^ (value | 0), 0x01000193);
    this.hash = Math.imul(hash ^ (this.scheduler.elapsedMs * 1024) ^ (hash >>> 15), 0x01000193);
    if (!this.isShown) return;
    if (this.lines.length === shownLines) this.lines.shift();
    const time = this.scheduler.elapsedMs.toFixed(3).padStart(12);
    this.lines.push(`${time}  ${what} ${about} ${value === 0 ? '' : value}`);
  }
}
