/** Which moment of a volume is wanted. */
export interface WantedMoment {
  /** All that was answered before it, nothing that was asked for at it or later. Since 1970. */
  readonly timeMs: number;
  /** Whether it is to end where the last flush before that was answered. */
  readonly flushed: boolean;
}
