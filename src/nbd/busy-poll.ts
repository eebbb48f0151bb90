import type { Clock } from '../base/clock.ts';

/** How long after an answer the client's next request is looked for. */
const patienceMs = 0.1;
/** A client that shares our processor, or whose processor is awake, asks again sooner than this. */
const slowMs = 0.025;
/** So many slow requests one after the other begin a period of polling. */
const slowRequests = 3;
/** After which it is seen anew whether they are slow without. */
const periodMs = 20;
/** What polling must save of the time between answer and request. */
const worthwhileShare = 0.8;
/** A turn of the loop takes microseconds: after this long another had the processor. */
const preemptedMs = 0.5;
/** For how long there is none when it did not help, or others wanted the processor. */
const restMs = 200;
/** Turns after one answer, whatever the clock says. */
const maximumTurns = 256;

/**
 * Keeps the event loop turning for a moment after an answer, where it would sleep. To fall asleep and
 * be woken may take longer than all else that a request of one block needs, in a virtual machine most
 * of all. So it is done where one client waits for each answer, asks again soon, but not as soon as
 * one whose processor is awake. It ends as soon as it turns out to be of no use: when requests come
 * no sooner by it, or the processor is wanted by others.
 */
export class BusyPoll {
  private readonly clock: Clock;
  private client: object | undefined;
  private answeredMs = Number.NEGATIVE_INFINITY;
  /** Slow requests one after the other, and how long they took together. */
  private slowCount = 0;
  private slowSumMs = 0;
  private untilMs = Number.NEGATIVE_INFINITY;
  private restUntilMs = Number.NEGATIVE_INFINITY;
  /** Of the period of polling: how long requests took, and how long they took before it. */
  private polledCount = 0;
  private polledSumMs = 0;
  private unpolledMs = 0;
  private isAwaited = false;
  private isTurning = false;
  private turns = 0;
  private turnMs = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Requests came from this client. */
  asked(client: object): void {
    const nowMs = this.clock.monotonicMs();
    const gapMs = nowMs - this.answeredMs;
    if (client !== this.client) {
      this.client = client;
      this.forget();
    } else if (this.untilMs > Number.NEGATIVE_INFINITY) {
      this.polledCount += 1;
      this.polledSumMs += Math.min(gapMs, patienceMs);
    } else if (gapMs < slowMs || gapMs > patienceMs) {
      this.forget();
    } else {
      this.slowCount += 1;
      this.slowSumMs += gapMs;
      if (this.slowCount >= slowRequests && nowMs >= this.restUntilMs) this.begin(nowMs);
    }
    this.isAwaited = false;
    this.turnMs = nowMs;
  }

  private forget(): void {
    this.slowCount = 0;
    this.slowSumMs = 0;
    this.untilMs = Number.NEGATIVE_INFINITY;
  }

  private begin(nowMs: number): void {
    this.unpolledMs = this.slowSumMs / this.slowCount;
    this.forget();
    this.untilMs = nowMs + periodMs;
    this.polledCount = 0;
    this.polledSumMs = 0;
  }

  /** Ends the period; the next one begins when requests are slow again. */
  private end(nowMs: number): void {
    const wantedMs = this.polledCount * this.unpolledMs * worthwhileShare;
    if (this.polledSumMs > wantedMs) this.restUntilMs = nowMs + restMs;
    this.forget();
  }

  /** All that this client asked is answered. */
  answered(client: object): void {
    if (client !== this.client) return;
    const nowMs = this.clock.monotonicMs();
    this.answeredMs = nowMs;
    if (this.untilMs === Number.NEGATIVE_INFINITY) return;
    if (nowMs >= this.untilMs) {
      this.end(nowMs);
      return;
    }
    this.isAwaited = true;
    this.turns = 0;
    this.turnMs = nowMs;
    if (this.isTurning) return;
    this.isTurning = true;
    this.clock.soon(this.turn);
  }

  private readonly turn = (): void => {
    const nowMs = this.clock.monotonicMs();
    if (nowMs - this.turnMs > preemptedMs) {
      this.restUntilMs = nowMs + restMs;
      this.forget();
    }
    this.turnMs = nowMs;
    this.turns += 1;
    this.isTurning =
      this.isAwaited &&
      this.turns < maximumTurns &&
      nowMs < this.untilMs &&
      nowMs - this.answeredMs < patienceMs;
    if (this.isTurning) this.clock.soon(this.turn);
  };
}
