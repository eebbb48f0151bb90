/**
 * The rooms of the source, from the top floor to the ground. An import goes down only; rooms on one
 * floor do not know each other. docs/ARCHITECTURE.md says what lives in each.
 */
const floors = [
  ['bin'],
  ['cli', 'api', 'console'],
  ['host', 'backup', 'array', 'nbd'],
  ['volume'],
  ['crypto', 'store'],
  ['format'],
  ['base'],
];

const tests = '[.]test[.]ts$|/testing/';
const source = (...rooms) => `^src/(${rooms.join('|')})/`;
const core = (...names) => `^(node:)?(${names.join('|')})(/|$)`;

const directionRules = floors.flatMap((rooms, floor) => {
  const above = floors.slice(0, floor).flat();
  return rooms.flatMap((room) => {
    const forbidden = [...above, ...rooms.filter((other) => other !== room)];
    return forbidden.length === 0
      ? []
      : [
          {
            name: `${room}-looks-down-only`,
            severity: 'error',
            comment: 'An import goes to a lower room, never up and never to a room beside it.',
            from: { path: source(room), pathNot: tests },
            to: { path: source(...forbidden) },
          },
        ];
  });
});

const machine = ['fs', 'http', 'https', 'http2', 'child_process', 'cluster', 'dgram', 'dns'].concat(
  ['timers', 'perf_hooks', 'os', 'process', 'sqlite', 'readline', 'worker_threads'],
);

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...directionRules,
    {
      name: 'format-is-pure',
      severity: 'error',
      comment: 'A codec takes bytes and gives values; it touches nothing else.',
      from: { path: source('format'), pathNot: tests },
      to: { path: core(...machine, 'net', 'tls', 'stream', 'events') },
    },
    {
      name: 'engine-asks-no-machine',
      severity: 'error',
      comment: 'Time, disk, network and workers are passed in, so that a simulator can own them.',
      from: { path: source('volume', 'array'), pathNot: tests },
      to: { path: core(...machine, 'net', 'tls') },
    },
    {
      name: 'nbd-has-sockets-and-no-more',
      severity: 'error',
      comment: 'The protocol knows sockets; time and disks are passed in.',
      from: { path: source('nbd'), pathNot: tests },
      to: { path: core(...machine) },
    },
    {
      name: 'known-rooms',
      severity: 'error',
      comment: 'A new room gets its floor here first.',
      from: {},
      to: { path: '^src/', pathNot: source(...floors.flat()) },
    },
    {
      name: 'source-without-tests',
      severity: 'error',
      comment: 'What is shipped does not import what is not.',
      from: { path: '^src/', pathNot: tests },
      to: { path: `^(test|bench|scripts)/|${tests}`, pathNot: 'node_modules' },
    },
    {
      name: 'no-circles',
      severity: 'error',
      from: { pathNot: 'node_modules' },
      to: { circular: true },
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: { pathNot: 'node_modules' },
      to: { couldNotResolve: true },
    },
    {
      name: 'shipped-dependencies',
      severity: 'error',
      comment: 'What is shipped needs only what a user installs.',
      from: { path: '^src/', pathNot: tests },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'undetermined'] },
    },
  ],
  options: {
    parser: 'swc',
    // Tests may know everything, and use syntax that this parser does not.
    doNotFollow: { path: ['node_modules', tests, '^(test|bench|scripts)/'] },
    tsPreCompilationDeps: true,
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.mjs', '.json'],
    },
  },
};
