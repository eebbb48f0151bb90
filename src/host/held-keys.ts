import type { Clock } from '../base/clock.ts';
import type { KeyProvider } from '../crypto/key-provider.ts';
import type { KeyEntry } from '../crypto/keyring-entry.ts';
import { type KeySurroundings, providerFor, providerOf } from '../crypto/providers.ts';
import type { WrappedKey } from '../format/wrapped-key.ts';

/** Long enough for a clone to be opened with all volumes that it goes back to. */
const heldMs = 5_000;

interface Held {
  readonly provider: KeyProvider;
  users: number;
  cancelClosing: () => void;
}

/**
 * Keys of the keyring that are in use or were a moment ago. A passphrase takes some tenths of a second, and a clone
 * needs the keys of all its ancestors, each asked for by itself.
 */
export class HeldKeys {
  readonly #surroundings: KeySurroundings;
  readonly #clock: Clock;
  readonly #held = new Map<string, Held>();

  constructor(surroundings: KeySurroundings, clock: Clock) {
    this.#surroundings = surroundings;
    this.#clock = clock;
  }

  /** With the key of this name, or the default one. */
  async named<T>(
    name: string | undefined,
    action: (provider: KeyProvider, entry: KeyEntry) => Promise<T>,
  ): Promise<T> {
    const entry = await this.#surroundings.keyring.find(name);
    return this.#use(entry, (provider) => action(provider, entry));
  }

  /** With the key that wrapped this; it has an entry where it is in the keyring. */
  async of<T>(
    wrapped: WrappedKey,
    action: (provider: KeyProvider, entry: KeyEntry | undefined) => Promise<T>,
  ): Promise<T> {
    const { keys } = await this.#surroundings.keyring.read();
    const entry = keys.find(({ id }) => id === wrapped.keyId);
    if (entry !== undefined) return this.#use(entry, (provider) => action(provider, entry));
    const provider = await providerFor(wrapped, this.#surroundings);
    try {
      return await action(provider, undefined);
    } finally {
      provider.close();
    }
  }

  async #use<T>(entry: KeyEntry, action: (provider: KeyProvider) => Promise<T>): Promise<T> {
    // A version that was made since is another key.
    const name = `${entry.id} ${entry.version}`;
    const held = this.#held.get(name) ?? {
      provider: providerOf(entry, this.#surroundings),
      users: 0,
      cancelClosing: () => undefined,
    };
    this.#held.set(name, held);
    held.cancelClosing();
    held.users += 1;
    try {
      return await action(held.provider);
    } finally {
      held.users -= 1;
      if (held.users === 0) {
        held.cancelClosing = this.#clock.after(heldMs, () => {
          this.#held.delete(name);
          held.provider.close();
        });
      }
    }
  }
}
