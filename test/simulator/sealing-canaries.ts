import { type PlantedBug, planted } from './planted.ts';

/** What must not go wrong when a volume is encrypted. */
export const sealingBugs: readonly PlantedBug[] = [
  planted(
    'a salt is used for several objects',
    200,
    'volume/volume-sealing.ts',
    'return this.objectOf(place, this.random.bytes(saltBytes));',
    'return this.objectOf(place, new Uint8Array(saltBytes));',
  ),
  planted(
    'a salt is used again for what has other bytes',
    200,
    'volume/volume-sealing.ts',
    'return this.objectOf(place, hmac.digest());',
    'return this.objectOf(place, new Uint8Array(saltBytes).fill(place.length));',
  ),
  planted(
    'a journal file that is used again has the salt of the last time',
    200,
    'volume/volume-sealing.ts',
    'return { cipher, generation, salt: this.random.bytes(saltBytes) };',
    'return { cipher, generation, salt: new Uint8Array(saltBytes).fill(1) };',
  ),
  planted(
    'a tag is not checked',
    200,
    'format/sealing.ts',
    '    opener.final();\n    return plain;',
    '    return plain;',
  ),
  planted(
    'an object is not bound to its place',
    200,
    'format/sealed-object.ts',
    'const where = new TextEncoder().encode(place);',
    "const where = new TextEncoder().encode('');",
  ),
  planted(
    'a segment is packed as that of a volume in the clear',
    200,
    'volume/uploader.ts',
    'if (sealing === undefined || header.sealing === undefined || groups === undefined) return {};',
    'return {};',
  ),
];
