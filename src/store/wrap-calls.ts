import type { CallOptions, ObjectStore } from '../base/object-store.ts';
import { totalBytes } from './parts.ts';

export type Operation = 'put' | 'get' | 'getStart' | 'list' | 'delete' | 'load' | 'swap' | 'remove';

/** A call of a store, as a wrapper sees it. */
export interface StoreCall<T> {
  readonly operation: Operation;
  /** The key, or the prefix of a listing. */
  readonly key: string;
  readonly sentBytes: number;
  readonly signal: AbortSignal | undefined;
  /** Bytes of data in a result; a listing has none. */
  readonly receivedBytes: (result: T) => number;
  /** Makes the call. */
  readonly make: () => Promise<T>;
}

/** A store whose every call goes through `around`, which makes it when and as often as it likes. */
export function wrapCalls(
  store: ObjectStore,
  around: <T>(call: StoreCall<T>) => Promise<T>,
): ObjectStore {
  const none = (): number => 0;
  const call = <T>(
    operation: Operation,
    key: string,
    options: CallOptions | undefined,
    make: () => Promise<T>,
    receivedBytes: (result: T) => number = none,
    sentBytes = 0,
  ): Promise<T> =>
    around({ operation, key, sentBytes, signal: options?.signal, receivedBytes, make });

  return {
    url: store.url,
    put: (key, parts, options) =>
      call('put', key, options, () => store.put(key, parts, options), none, totalBytes(parts)),
    get: (key, range, options) =>
      call(
        'get',
        key,
        options,
        () => store.get(key, range, options),
        (bytes) => bytes.length,
      ),
    getStart: (key, maxBytes, options) =>
      call(
        'getStart',
        key,
        options,
        () => store.getStart(key, maxBytes, options),
        ({ bytes }) => bytes.length,
      ),
    list: (prefix, options) => call('list', prefix, options, () => store.list(prefix, options)),
    delete: (key, options) => call('delete', key, options, () => store.delete(key, options)),
    load: (key, options) =>
      call(
        'load',
        key,
        options,
        () => store.load(key, options),
        (present) => present?.value.length ?? 0,
      ),
    swap: (key, expected, value, options) =>
      call(
        'swap',
        key,
        options,
        () => store.swap(key, expected, value, options),
        none,
        value.length,
      ),
    remove: (key, options) => call('remove', key, options, () => store.remove(key, options)),
    close: () => store.close(),
  };
}
