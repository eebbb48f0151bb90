import { beforeEach, expect, test } from 'vitest';
import { BusyPoll } from './busy-poll.ts';

/** A clock that counts what is due in the next turn of the loop. */
class TurningClock {
  nowMs = 0;
  private due: (() => void)[] = [];

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.nowMs;
  }

  after(): () => void {
    throw new Error('busy polling sets no timers');
  }

  soon(action: () => void): void {
    this.due.push(action);
  }

  /** One turn of the loop, after which so much time has passed; whether anything was due. */
  turn(takesMs: number): boolean {
    this.nowMs += takesMs;
    const due = this.due.splice(0);
    for (const action of due) action();
    return due.length > 0;
  }

  /** Turns until nothing is due; how many there were. */
  turnsLeft(takesMs: number): number {
    let turns = 0;
    while (this.turn(takesMs)) turns += 1;
    return turns;
  }
}

let clock: TurningClock;
let poll: BusyPoll;
const [one, other] = [{}, {}];

beforeEach(() => {
  clock = new TurningClock();
  poll = new BusyPoll(clock);
});

function serve(client: object, afterMs: number): void {
  clock.nowMs += afterMs;
  poll.asked(client);
  poll.answered(client);
}

/** Requests of a client that sleeps between them, until they are polled for. */
function serveSlowly(): void {
  for (let count = 0; count < 4; count += 1) serve(one, 0.05);
}

test('after slow requests the next one is looked for, for a moment', () => {
  serve(one, 0.05);
  expect(clock.turnsLeft(0.002)).toBe(0);
  serveSlowly();
  const turns = clock.turnsLeft(0.002);
  expect(turns).toBeGreaterThan(40);
  expect(turns).toBeLessThan(60);
});

test('as long as that helps the loop hardly ever sleeps, and it turns once at a time', () => {
  serveSlowly();
  let slept = 0;
  for (let count = 0; count < 10_000; count += 1) {
    const isPolled = clock.turn(0.002);
    if (!isPolled) slept += 1;
    serve(one, isPolled ? 0.013 : 0.05);
  }
  expect(slept).toBeGreaterThan(0);
  expect(slept).toBeLessThan(100);
});

test('where it does not help there is a rest', () => {
  serveSlowly();
  let slept = 0;
  for (let count = 0; count < 10_000; count += 1) {
    if (!clock.turn(0.002)) slept += 1;
    serve(one, 0.048);
  }
  expect(slept).toBeGreaterThan(8000);
});

test('a client that asks again at once is not polled for, nor is one that takes its time', () => {
  for (const gapMs of [0.01, 0.2, 5]) {
    for (let count = 0; count < 10; count += 1) serve(one, gapMs);
    expect(clock.turnsLeft(0.002)).toBe(0);
  }
});

test('clients that take turns are not polled for', () => {
  for (let count = 0; count < 10; count += 1) {
    serve(one, 0.05);
    serve(other, 0.05);
  }
  expect(clock.turnsLeft(0.002)).toBe(0);
});

test('while a request is under way the loop sleeps', () => {
  serveSlowly();
  expect(clock.turn(0.002)).toBe(true);
  poll.asked(one);
  expect(clock.turnsLeft(0.002)).toBe(1);
});

test('when others want the processor they get it', () => {
  serveSlowly();
  expect(clock.turn(3)).toBe(true);
  for (let count = 0; count < 100; count += 1) {
    serve(one, 0.05);
    expect(clock.turn(0.002)).toBe(false);
  }
  clock.nowMs += 200;
  serve(one, 0);
  serveSlowly();
  expect(clock.turnsLeft(0.002)).toBeGreaterThan(40);
});

test('a clock that stands still does not keep the loop turning', () => {
  serveSlowly();
  expect(clock.turnsLeft(0)).toBeLessThan(300);
});
