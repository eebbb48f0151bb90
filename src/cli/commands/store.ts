import type { Noun } from '../verb.ts';
export const storeNoun: Noun = { name: 'store', summary: 'Look at stores', verbs: [] };
