import type { Noun } from '../verb.ts';
import { createVerb } from './snapshot-create.ts';
import { deleteVerb } from './snapshot-delete.ts';
import { diffVerb } from './snapshot-diff.ts';
import { holdVerb, releaseVerb } from './snapshot-hold.ts';
import { listVerb, showVerb } from './snapshot-show.ts';

export const snapshotNoun: Noun = {
  name: 'snapshot',
  summary: 'Make, list, show, compare, hold and delete snapshots of volumes',
  verbs: [createVerb, listVerb, showVerb, diffVerb, holdVerb, releaseVerb, deleteVerb],
};
