import { Command, CommanderError, Option } from 'commander';
import { StorageError } from '../base/errors.ts';
import { defaultText, flagName, type KeyName, keyOf } from './configuration/keys.ts';
import { type Configuration, loadConfiguration, requireSound } from './configuration/load.ts';
import { Output } from './output.ts';
import { type Noun, ownStoreKeys, type Surroundings, type Verb } from './verb.ts';

const programName = 'elasticdrive';

/** One run of the program, while its command line is taken apart. */
interface Run {
  readonly surroundings: Surroundings;
  readonly output: Output;
  /** Of the verb that was run. */
  status: number;
}

/** Runs the command line and resolves with the exit status. Never rejects. */
export async function runProgram(
  argv: readonly string[],
  contents: readonly (Noun | Verb)[],
  surroundings: Surroundings,
): Promise<number> {
  // Asked here, because errors of the command line itself are JSON too.
  const end = argv.indexOf('--');
  const json = argv.slice(0, end === -1 ? argv.length : end).includes('--json');
  const output = new Output(surroundings.streams, json);
  const run: Run = { surroundings, output, status: 0 };
  try {
    await programCommand(contents, run).parseAsync(argv, { from: 'user' });
    return run.status;
  } catch (error) {
    if (!(error instanceof CommanderError)) return output.failure(error);
    // Help that was asked for, or the version: printed already.
    if (error.exitCode === 0) return 0;
    if (error.code === 'commander.help') return 2;
    return output.failure(new StorageError('usage', sentence(error)));
  }
}

function programCommand(contents: readonly (Noun | Verb)[], run: Run): Command {
  const program = command(programName, run.output)
    .description('Disks that live in object storage, served over NBD.')
    .usage('<command> [options]')
    .version(run.surroundings.version, '--version', 'Print the version');
  showExamples(program, programName, [
    ['serve', 'make a 10GiB disk in ./elasticdrive-data and serve it'],
    ['volume create data --size 4T --store s3://bucket', 'make a disk in a bucket'],
    ['serve --store s3://bucket', 'serve every disk of the bucket'],
    ['status', 'see what the daemon does'],
  ]);
  for (const entry of contents) {
    program.addCommand(
      'verbs' in entry ? nounCommand(entry, run) : verbCommand(entry, programName, run),
    );
  }
  return program;
}

function nounCommand({ name, summary, verbs }: Noun, run: Run): Command {
  const path = `${programName} ${name}`;
  const noun = command(path, run.output).description(summary).usage('<command> [options]');
  for (const verb of verbs) noun.addCommand(verbCommand(verb, path, run));
  showExamples(
    noun,
    path,
    verbs.flatMap((verb) => verb.examples.slice(0, 1)),
  );
  return noun;
}

function verbCommand(verb: Verb, parentPath: string, run: Run): Command {
  const made = command(`${parentPath} ${verb.name}`, run.output).description(verb.summary);
  showExamples(made, parentPath, verb.examples);
  for (const [name, description] of verb.arguments ?? []) made.argument(name, description);
  for (const option of verb.options ?? []) made.addOption(option);
  made.option('--json', 'Print JSON');
  if (verb.unconfigured !== true) made.option('--config <file>', 'Configuration file');
  const keyOptions = [...new Set(verb.keys)].map((name) => [name, keyOption(name)] as const);
  for (const [, option] of keyOptions) made.addOption(option);
  return made.action(async () => {
    const options: Record<string, unknown> = made.opts();
    const flags = new Map<KeyName, readonly string[]>();
    for (const [name, option] of keyOptions) {
      const texts = options[option.attributeName()];
      if (Array.isArray(texts)) flags.set(name, texts as string[]);
    }
    const { surroundings, output } = run;
    const load = (): Promise<Configuration> =>
      loadConfiguration({
        configFile: options['config'] as string | undefined,
        flags,
        environment: surroundings.environment,
        workingDirectory: surroundings.workingDirectory,
      });
    const status = await verb.run({
      ...surroundings,
      output,
      command: `${parentPath} ${verb.name}`.slice(programName.length + 1),
      arguments: made.args,
      options,
      loadConfiguration: load,
      async configuration() {
        const loaded = await load();
        for (const warning of loaded.warnings) output.warning(warning);
        return requireSound(loaded);
      },
    });
    run.status = status ?? 0;
  });
}

/** `path` is the command as it is typed: `elasticdrive volume create`. */
function command(path: string, output: Output): Command {
  return new Command(path.split(' ').at(-1))
    .exitOverride((error) => {
      throw new UsageComplaint(error, path);
    })
    .configureOutput({
      writeOut: (text) => output.help(text, false),
      writeErr: (text) => output.help(text, true),
      // Errors are thrown as well; runProgram prints them.
      outputError: () => undefined,
    })
    .helpOption('-h, --help', 'Print this help')
    .helpCommand(false);
}

function showExamples(to: Command, parentPath: string, examples: Verb['examples']): void {
  const lines = examples.map(([line, purpose]) => `  # ${purpose}\n  ${parentPath} ${line}\n`);
  to.addHelpText('before', `Examples:\n${lines.join('')}`);
}

const groups = { daemon: 'Daemon:', volume: 'Volumes:', store: 'Stores:' } as const;

/** Every key of the configuration as a flag; the values are read where those of the file are. */
function keyOption(name: KeyName): Option {
  const { kind, description } = keyOf(name);
  const repeat = kind.isList === true ? '; may be repeated' : '';
  // Of a boolean, the flag alone says true.
  const value = kind.isFlag === true ? `[${kind.placeholder}]` : `<${kind.placeholder}>`;
  const option = new Option(
    `${flagName(name)} ${value}`,
    `${description}${repeat}; default: ${defaultText(name)}`,
  )
    .argParser<string[]>((text, before: string[] | undefined) => [...(before ?? []), text])
    .helpGroup(
      name === 'store' || ownStoreKeys.includes(name) ? 'Stores:' : groups[keyOf(name).scope],
    );
  return kind.isFlag === true ? option.preset('true') : option;
}

/** What commander complains of, with the command that it was said to. */
class UsageComplaint extends CommanderError {
  readonly command: string;

  constructor({ exitCode, code, message }: CommanderError, command: string) {
    super(exitCode, code, message);
    this.command = command;
  }
}

/** Commander's message as one sentence of ours that says what to do. */
function sentence(error: CommanderError): string {
  const message = error.message.replace(/^error: /, '').replace(/\.$/, '');
  const guess = /^(.*)\n\(Did you mean (.*)\?\)$/s.exec(message);
  if (guess !== null) return `${guess[1]}; did you mean ${guess[2]}?`;
  const command = error instanceof UsageComplaint ? error.command : programName;
  return `${message}; see "${command} --help"`;
}
