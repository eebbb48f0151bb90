import type { Option } from 'commander';
import type { Configuration } from './configuration/load.ts';
import { type KeyName, keyNames, keyOf } from './configuration/keys.ts';
import type { Drivers } from './drivers.ts';
import type { Output, Streams } from './output.ts';
import type { ProcessSignals } from './signals.ts';

/** What the process gives to a command. */
export interface Surroundings {
  readonly streams: Streams;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
  readonly version: string;
  readonly drivers: Drivers;
  readonly signals: ProcessSignals;
}

/** One use of a command. */
export interface Invocation extends Surroundings {
  readonly output: Output;
  /** As it is typed, without the name of the program. */
  readonly command: string;
  readonly arguments: readonly string[];
  /** Flags of the command's own, without their dashes. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Reads the configuration with whatever problems it has. */
  loadConfiguration(): Promise<Configuration>;
  /** Reads the configuration, prints its warnings, refuses one with problems. */
  configuration(): Promise<Configuration>;
}

/** A command: what the user reads about it and what it does. */
export interface Verb {
  readonly name: string;
  readonly summary: string;
  /** From the verb on, each with what it is for. */
  readonly examples: readonly (readonly [line: string, purpose: string])[];
  readonly arguments?: readonly (readonly [name: string, description: string])[];
  readonly options?: readonly Option[];
  /** Keys of the configuration that may be given as flags. */
  readonly keys?: readonly KeyName[];
  /** No configuration is read: `--config` makes no sense. */
  readonly unconfigured?: true;
  /** Resolves with the exit status, if it is not 0. */
  run(invocation: Invocation): Promise<number | undefined>;
}

export interface Noun {
  readonly name: string;
  readonly summary: string;
  readonly verbs: readonly Verb[];
}

/** Keys that say what a store is, beside its URL. */
export const ownStoreKeys: readonly KeyName[] = keyNames.filter(
  (name) => keyOf(name).scope === 'store',
);
/** Keys that say where volumes are, and what opens those that are encrypted. */
export const storeKeys: readonly KeyName[] = [
  ...(['store', ...ownStoreKeys] as const),
  ...(['keyring', 'password_file', 'password_command', 'recovery_file', 'state_dir'] as const),
];
