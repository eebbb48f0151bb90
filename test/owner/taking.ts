import { ConnectionLost, type NbdAddress, NbdClient } from '../support/nbd-client.ts';

/** A client that asks a host for a volume again and again, until it gets it or gives up. */
export class Taking {
  readonly #address: NbdAddress;
  readonly #name: string;
  readonly #done: Promise<NbdClient | undefined>;
  #stopped = false;

  constructor(address: NbdAddress, name: string) {
    this.#address = address;
    this.#name = name;
    this.#done = this.#ask();
    // Whoever waits for it hears of a failure.
    this.#done.catch(() => undefined);
  }

  /** Resolves when the host has the volume. */
  async got(): Promise<NbdClient> {
    const client = await this.#done;
    if (client === undefined) throw new Error('the volume was not to be had');
    return client;
  }

  /** Asks no more; a client all the same when the host had the volume already. */
  giveUp(): Promise<NbdClient | undefined> {
    this.#stopped = true;
    return this.#done;
  }

  async #ask(): Promise<NbdClient | undefined> {
    const deadline = performance.now() + 60_000;
    while (!this.#stopped) {
      try {
        return await NbdClient.connect(this.#address, this.#name);
      } catch (error) {
        if (!(error instanceof ConnectionLost) || performance.now() > deadline) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return undefined;
  }
}
