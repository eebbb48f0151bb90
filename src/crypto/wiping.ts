/**
 * Overwrites secrets that are no longer needed. What the runtime copied on its way (the heap of
 * OpenSSL, a string that was made of them) is out of reach: docs/SECURITY.md says how far this is.
 */
export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}
