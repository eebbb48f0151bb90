import { didYouMean } from '../did-you-mean.ts';
import type { Assignment } from './assignment.ts';
import { environmentName, flagName, type KeyName, keyNames, keyOf } from './keys.ts';

/** Assignments of the environment; unknown `ELASTICDRIVE_*` names come back as warnings. */
export function readEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  baseDirectory: string,
): { assignments: Assignment[]; warnings: string[] } {
  const assignments: Assignment[] = [];
  const warnings: string[] = [];
  const known = new Map(keyNames.map((name) => [environmentName(name), name]));
  for (const [variable, text] of Object.entries(environment)) {
    if (text === undefined || text === '' || !variable.startsWith('ELASTICDRIVE_')) continue;
    const name = known.get(variable);
    if (name === undefined) {
      // Kubernetes puts variables of its own here for a service that is called elasticdrive.
      const hint = didYouMean(variable, [...known.keys()]);
      if (hint !== '') warnings.push(`the environment variable ${variable} is not known${hint}`);
      continue;
    }
    const texts = keyOf(name).kind.isList ? text.split(/\s+/).filter(Boolean) : [text];
    assignments.push({ path: name.split('.'), value: { texts }, origin: variable, baseDirectory });
  }
  return { assignments, warnings };
}

/** Assignments of flags: the texts that each was given with. */
export function readFlags(
  flags: ReadonlyMap<KeyName, readonly string[]>,
  baseDirectory: string,
): Assignment[] {
  return [...flags].map(([name, texts]) => ({
    path: name.split('.'),
    value: { texts },
    origin: flagName(name),
    baseDirectory,
  }));
}
