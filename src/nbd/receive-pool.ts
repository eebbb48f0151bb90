/** What an idle connection receives into, and what one does that sends much. */
export const receiveBytes = { little: 16 * 1024, much: 256 * 1024 } as const;

export type ReceiveSize = keyof typeof receiveBytes;

/** Memory to receive into that no connection is using. */
export class ReceivePool {
  private readonly unused: Record<ReceiveSize, Uint8Array[]> = { little: [], much: [] };
  private readonly maximumUnused: number;

  /** So many of either size are kept. */
  constructor(maximumUnused = 16) {
    this.maximumUnused = maximumUnused;
  }

  take(size: ReceiveSize): Uint8Array {
    return this.unused[size].pop() ?? Buffer.allocUnsafeSlow(receiveBytes[size]);
  }

  give(memory: Uint8Array): void {
    const unused = this.unused[memory.byteLength === receiveBytes.much ? 'much' : 'little'];
    if (unused.length < this.maximumUnused) unused.push(memory);
  }
}
