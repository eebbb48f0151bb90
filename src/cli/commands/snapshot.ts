import type { Noun } from '../verb.ts';
import { diffVerb } from './snapshot-diff.ts';

export const snapshotNoun: Noun = {
  name: 'snapshot',
  summary: 'Compare snapshots of volumes',
  verbs: [diffVerb],
};
