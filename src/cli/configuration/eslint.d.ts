// The types of the TOML parser name one type of ESLint, for which nothing else of ESLint is needed.
declare module 'eslint' {
  export namespace SourceCode {
    type VisitorKeys = Readonly<Record<string, readonly string[]>>;
  }
}
