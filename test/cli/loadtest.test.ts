import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { LoadReport } from '../../src/cli/loadtest/load-report.js';
import { setup } from './process.js';

test('loadtest locks reports both ways of locking, ours without a deadlock or a key left behind', async (t) => {
  const { millrace } = setup(t);
  const words = ['--store', 'memory', '--rate', '200', '--seconds', '1', '--shards', '8', '--json'];
  const { code, stdout, stderr } = await millrace(['loadtest', 'locks', ...words]);
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as {
    readonly load: unknown;
    readonly contenders: readonly (Readonly<Record<string, number>> & { readonly name: never })[];
  };
  assert.deepEqual(report.load, { rate: 200, seconds: 1, shards: 8, sessions: 4, holdMs: 2 });
  const [ours, naive] = report.contenders;
  assert.equal(ours?.name, 'millrace');
  assert.equal(naive?.name, 'naive');
  assert.equal(ours?.granted, 200);
  for (const trouble of ['timeouts', 'deadlocks', 'overlaps', 'failures', 'leakedKeys']) {
    assert.equal(ours?.[trouble], 0, trouble);
  }
  assert.equal(naive?.asked, 200);
});

test('a scenario that does not exist is a mistake in usage', async (t) => {
  const { millrace } = setup(t);
  const { code, stderr } = await millrace(['loadtest', 'lock']);
  assert.equal(code, 2);
  assert.match(
    stderr,
    /there is no scenario 'lock'; there are tasks, timers, locks, soak, ablation/,
  );
});

test('loadtest submits tasks at a fixed rate and finds one result for each', async (t) => {
  const { millrace, folder } = setup(t);
  const words = ['--store', 'data', '--rate', '300', '--seconds', '2', '--delay', '100ms'];
  const { code, stdout, stderr } = await millrace([
    'loadtest',
    ...words,
    '--json',
    'out/load.json',
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /delivery exact: 600 accepted, 600 completed, 0 lost/);
  const report = JSON.parse(readFileSync(join(folder, 'out/load.json'), 'utf8')) as LoadReport;
  assert.deepEqual(
    report.phases.map(({ name, facts }) => [name, facts.count]),
    ['submit', 'wait', 'run', 'endToEnd'].map((name) => [name, 600]),
  );
  const ended = report.timeline.reduce((total, second) => total + second.ended, 0);
  assert.equal(ended, 600);
  assert.deepEqual(report.delivery, {
    ...{ submitted: 600, accepted: 600, refused: {}, completed: 600, failed: {} },
    ...{ open: 0, unheard: 0, lost: 0, foreign: 0, twice: 0, repeated: 0 },
  });
  assert.equal(report.processes[0]?.executions, 600);
  assert.ok((report.processes[0]?.commitMs.count ?? 0) > 0, 'commits were timed');
});

test('loadtest timers fires each timer once and none early', async (t) => {
  const { millrace } = setup(t);
  const words = ['--rate', '20000', '--seconds', '1', '--delay', '300ms', '--json'];
  const { code, stdout, stderr } = await millrace(['loadtest', 'timers', ...words]);
  assert.equal(code, 0, stderr);
  const { delivery, phases } = JSON.parse(stdout) as LoadReport;
  assert.equal(delivery.completed, 20_000);
  assert.equal(phases[0]?.facts.count, 20_000);
});

const MISTAKES: readonly (readonly [words: string, complaint: RegExp])[] = [
  ['--store memory --nodes 2', /--nodes needs processes that share the store/],
  ['--store memory --faults kill', /--faults needs processes that share the store/],
  ['--work sleep:3', /--work is 'sleep:3'; give noop, cpu:<microseconds>/],
  ['--faults meteor', /--faults is 'meteor'; give 'kill' or 'pause'/],
  ['timers --work noop', /--work is not for timers/],
  ['--payload 1GB', /--payload is '1GB'; give at most 250000 bytes/],
];

for (const [words, complaint] of MISTAKES) {
  test(`loadtest ${words} is a mistake in usage`, async (t) => {
    const { millrace } = setup(t);
    const { code, stderr } = await millrace(['loadtest', ...words.split(' ')]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, complaint);
  });
}
