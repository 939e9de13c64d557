import assert from 'node:assert/strict';
import { test } from 'node:test';
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
  assert.match(stderr, /there is no scenario 'lock'; there is locks/);
});
