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

import('./start.js').catch(function (error) {
  process.stderr.write('elasticdrive: cannot start: ' + (error.stack || error) + '\n');
  process.exit(1);
});
