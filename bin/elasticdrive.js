#!/usr/bin/env node
// The launcher. It must be understood by every Node that may find it, however old, to say which one
// is needed; so it uses nothing newer than dynamic import.
var major = Number(process.versions.node.split('.')[0]);
if (!(major >= 24)) {
  process.stderr.write(
    'elasticdrive: this is Node ' +
      process.versions.node +
      ', and ElasticDrive needs Node 24 or newer: install it from https://nodejs.org, or with "npm install node@24" and start ElasticDrive with "npx elasticdrive".\n',
  );
  process.exit(1);
}

// A daemon moves data all the time. With V8's usual young generation that is 100 MiB of memory more
// and nothing faster; its size can only be said at the start. The process stays the same.
var youngGeneration = '--max-semi-space-size=4';
var isServer = process.argv.slice(2).indexOf('serve') >= 0;
if (isServer && process.execve && process.execArgv.indexOf(youngGeneration) < 0) {
  process.execve(
    process.execPath,
    [process.execPath, youngGeneration].concat(process.execArgv, process.argv.slice(1)),
    process.env,
  );
}

import('./start.js').catch(function (error) {
  process.stderr.write('elasticdrive: cannot start: ' + (error.stack || error) + '\n');
  process.exit(1);
});
