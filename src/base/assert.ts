/**
 * An assertion is for our own mistakes. It stays on in production: a process that has proved itself
 * wrong must stop before it writes anything more. What the world does wrong is a `StorageError`.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}
