import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';

// A checkout runs its source; what npm installs has only the compiled form of it.
enableCompileCache();
const source = new URL('../src/bin/main.ts', import.meta.url);
await import(
  existsSync(source) ? source.href : new URL('../dist/bin/main.js', import.meta.url).href
);
