/**
 * Runs the compiled tests: `node scripts/test.mjs [part of a path]... [-t <part of a test's name>]`.
 *
 * Without arguments everything but test/long and test/soak runs (see test-long.mjs). Ends with node:test's
 * own summary. Exits with 1 when a test failed and also when none ran: a filter that matches nothing, or a
 * build that put out nothing, must not look like success. Neither must tests that were left out because a server
 * they need cannot be had; see lib/servers.mjs.
 */

import { parseArgs } from 'node:util';
import { at, fail, filesBelow } from './lib/project.mjs';
import { withServers } from './lib/servers.mjs';
import { runTests } from './lib/test-run.mjs';

/** Tests of threads that watch the clock: alone, or they would measure their neighbours. */
const ALONE = /^integration\/(workers|runtime)\/(?!bulk-memory)/;
/** Tests that start processes or servers, and mostly wait for them. */
const WITH_PROCESSES = /^(integration|cli|package|examples|bench)\/|^conformance\/store\/etcd/;
const SEPARATE = /^(long|soak)\//;
/** Files that take longest: begun first, so that none is left over at the end with a core that idles. */
const FIRST =
  /^(sim\/(lone|cluster)|integration\/cluster\/(faults|outages)|conformance\/store\/etcd|integration\/kafka\/|cli\/(demo|run)|package\/package)/;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { name: { type: 'string', short: 't' } },
});

const wanted = filesBelow(at('dist/test'))
  .filter((file) => file.endsWith('.test.js') && !SEPARATE.test(file))
  .filter((file) => positionals.length === 0 || positionals.some((part) => matches(file, part)));
if (wanted.length === 0) {
  fail(
    positionals.length === 0
      ? 'no compiled tests in dist/test; run: npm run build'
      : `no test file matches ${positionals.join(', ')}`,
  );
}

const { files, notes, isAskedFor } = await withServers(wanted);
const groups = { withProcesses: [], pure: [], alone: [] };
for (const file of [...files.filter(isLong), ...files.filter((file) => !isLong(file))]) {
  groups[groupOf(file)].push(at('dist/test', file));
}
const passed = await runTests(
  groups,
  values.name === undefined ? {} : { namePattern: values.name },
);
for (const note of notes) console.log(note);
if (notes.length > 0 && !isAskedFor) {
  console.log(
    'this run does not count as passed; MILLRACE_TEST_SERVERS=none leaves them out on purpose',
  );
}
process.exitCode = passed && (notes.length === 0 || isAskedFor) ? 0 : 1;

function groupOf(file) {
  if (ALONE.test(file)) return 'alone';
  return WITH_PROCESSES.test(file) ? 'withProcesses' : 'pure';
}

function isLong(file) {
  return FIRST.test(file);
}

/** Sources, outputs and bare words all name a test: test/core/ids.test.ts, dist/test/core/ids.test.js, ids. */
function matches(file, part) {
  return `dist/test/${file}`.includes(part.replace(/\.ts$/, '.js'));
}
