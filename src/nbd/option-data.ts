import { decodeString, maximumStringBytes, viewOf } from './wire.ts';

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export interface ExportQuery {
  readonly name: string;
  readonly infoTypes: ReadonlySet<number>;
}

/** The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export interface MetaContextQuery {
  readonly name: string;
  readonly queries: readonly string[];
}

/** Length of the name 0..4, name, count of requests (16 bits), that many types (16 bits each). */
export function decodeExportQuery(data: Uint8Array): ExportQuery | undefined {
  const reader = new OptionReader(data);
  const name = reader.string();
  const count = reader.uint16();
  if (name === undefined || count === undefined) return undefined;
  const infoTypes = new Set<number>();
  for (let index = 0; index < count; index += 1) {
    const type = reader.uint16();
    if (type === undefined) return undefined;
    infoTypes.add(type);
  }
  return reader.atEnd ? { name, infoTypes } : undefined;
}

/** Length of the name 0..4, name, count of queries (32 bits), each a length (32 bits) and string. */
export function decodeMetaContextQuery(data: Uint8Array): MetaContextQuery | undefined {
  const reader = new OptionReader(data);
  const name = reader.string();
  const count = reader.uint32();
  if (name === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const query = reader.string();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return reader.atEnd ? { name, queries } : undefined;
}

/** Reads from the data's start; undefined is what the data does not hold. */
class OptionReader {
  private readonly data: Uint8Array;
  private readonly view: DataView;
  private at = 0;

  constructor(data: Uint8Array) {
    this.data = data;
    this.view = viewOf(data);
  }

  get atEnd(): boolean {
    return this.at === this.data.length;
  }

  uint16(): number | undefined {
    if (this.at + 2 > this.data.length) return undefined;
    this.at += 2;
    return this.view.getUint16(this.at - 2);
  }

  uint32(): number | undefined {
    if (this.at + 4 > this.data.length) return undefined;
    this.at += 4;
    return this.view.getUint32(this.at - 4);
  }

  string(): string | undefined {
    const count = this.uint32();
    if (count === undefined || count > maximumStringBytes) return undefined;
    if (this.at + count > this.data.length) return undefined;
    this.at += count;
    return decodeString(this.data.subarray(this.at - count, this.at));
  }
}
