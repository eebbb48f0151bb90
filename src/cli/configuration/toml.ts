import { type AST, getStaticTOMLValue, ParseError, parseTOML } from 'toml-eslint-parser';
import { StorageError } from '../../base/errors.ts';
import type { Assignment, RawValue } from './assignment.ts';

/**
 * The keys of a TOML file, in its order; `file` is how messages call it. A syntax error is a `usage`
 * error with file and line.
 */
export function readToml(source: string, file: string, baseDirectory: string): Assignment[] {
  const assignments: Assignment[] = [];
  const add = (path: readonly (string | number)[], value: RawValue, node: AST.TOMLNode): void => {
    const origin = `${file}:${node.loc.start.line}`;
    assignments.push({ path, value, origin, baseDirectory });
  };
  const addPairs = (
    prefix: readonly (string | number)[],
    pairs: readonly AST.TOMLKeyValue[],
  ): void => {
    for (const pair of pairs) {
      const path = [...prefix, ...pair.key.keys.map(nameOf)];
      if (pair.value.type === 'TOMLInlineTable') addPairs(path, pair.value.body);
      else add(path, { toml: getStaticTOMLValue(pair.value) }, pair);
    }
  };
  for (const node of parse(source, file).body[0].body) {
    if (node.type === 'TOMLKeyValue') addPairs([], [node]);
    else {
      add(node.resolvedKey, { table: true }, node);
      addPairs(node.resolvedKey, node.body);
    }
  }
  return assignments;
}

function nameOf(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === 'TOMLBare' ? key.name : key.value;
}

function parse(source: string, file: string): AST.TOMLProgram {
  try {
    return parseTOML(source);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new StorageError(
      'usage',
      `${file}:${error.lineNumber}: this is no valid TOML: ${error.message}`,
      { cause: error },
    );
  }
}
