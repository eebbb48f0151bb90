import { ConnectionLost, type NbdAddress, NbdClient } from '../support/nbd-client.ts';

/** A client that asks a host for a volume again and again, until it gets it or gives up. */
export class Taking {
  readonly #address: NbdAddress;
  readonly #name: string;
  #stopped = false;
  readonly done: Promise<NbdClient>;

  constructor(address: NbdAddress, name: string) {
    this.#address = address;
    this.#name = name;
    this.done = this.#ask();
    // Whoever waits for it hears of a failure; one that is given up is no matter.
    this.done.catch(() => undefined);
  }

  async giveUp(): Promise<void> {
    this.#stopped = true;
    const client = await this.done.catch(() => undefined);
    if (client !== undefined) throw new Error('a volume was given to two hosts');
  }

  async #ask(): Promise<NbdClient> {
    const deadline = performance.now() + 60_000;
    while (!this.#stopped) {
      try {
        return await NbdClient.connect(this.#address, this.#name);
      } catch (error) {
        if (!(error instanceof ConnectionLost) || performance.now() > deadline) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error('given up');
  }
}
