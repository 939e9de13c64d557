/**
 * Servers that some tests need, and which of them can be had here.
 *
 * They come from PATH or out of Debian's packages (test/support). Where one cannot be had, its tests are left out, and
 * the run does not count as passed: what was not tested must not look tested. `MILLRACE_TEST_SERVERS=none` says that
 * this is known, and leaves out all of them.
 */

import { at } from './project.mjs';

/** Which tests need what, and how to find out whether it can be had. */
const SERVERS = [
  {
    name: 'etcd',
    tests: /^(integration\/(etcd|cluster)\/|conformance\/store\/etcd)/,
    async find() {
      const { etcdBinaries } = await import(at('dist/test/support/etcd/binaries.js'));
      await etcdBinaries();
    },
  },
  {
    name: 'PostgreSQL',
    tests: /^integration\/postgres\//,
    async find() {
      const { findPostgres } = await import(at('dist/test/support/postgres-programs.js'));
      await findPostgres();
    },
  },
  {
    name: 'kcat, for its Kafka broker',
    tests: /^integration\/kafka\//,
    async find() {
      const { findKcat } = await import(at('dist/test/support/kcat.js'));
      await findKcat();
    },
  },
  {
    name: 'Prometheus and Alertmanager',
    tests: /^integration\/prometheus\//,
    async find() {
      const { prometheusPrograms } = await import(at('dist/test/support/prometheus.js'));
      await prometheusPrograms();
    },
  },
  {
    name: 'Chromium',
    tests: /^integration\/browser\//,
    async find() {
      const { chromiumProgram } = await import(at('dist/test/support/chromium.js'));
      await chromiumProgram();
    },
  },
];

/**
 * Leaves out the tests whose servers cannot be had.
 *
 * @param files - paths relative to dist/test
 * @returns which files to run; what to tell the reader at the end; whether leaving out was asked for
 */
export async function withServers(files) {
  const isAskedFor = process.env.MILLRACE_TEST_SERVERS === 'none';
  const leftOut = new Set();
  const notes = [];
  for (const { name, tests, find } of SERVERS) {
    const needing = files.filter((file) => tests.test(file));
    if (needing.length === 0) continue;
    const reason = isAskedFor ? 'MILLRACE_TEST_SERVERS=none' : await failureOf(find);
    if (reason === undefined) continue;
    for (const file of needing) leftOut.add(file);
    notes.push(`left out ${needing.length} files that need ${name}: ${reason}`);
  }
  return { files: files.filter((file) => !leftOut.has(file)), notes, isAskedFor };
}

async function failureOf(find) {
  try {
    await find();
    return undefined;
  } catch (error) {
    return error.message;
  }
}
