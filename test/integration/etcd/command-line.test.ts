/**
 * `millrace` with its tasks in a real etcd, over TLS, as a user.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DemoSummary } from '../../../src/cli/demo-tally.js';
import { createRuntime, defineTask, defineTasks } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { linkedFiles, MILLRACE, records, setup } from '../../cli/process.js';
import { EtcdCluster } from '../../support/etcd/index.js';

test('demo keeps its tasks in etcd, and a second run finds them done', async (t) => {
  const etcd = await EtcdCluster.start({ tls: { requiresClient: true } });
  t.after(() => etcd.close());
  await etcd.enableAuth('secret', { name: 'orders', password: 'pw', prefix: '/orders/' });
  const { write, start } = setup(t);
  write({ 'files/a.txt': 'one', 'files/b.txt': 'two' });
  const hosts = etcd.endpoints.map((endpoint) => endpoint.replace('https://', '')).join();
  const { ca } = etcd.tls!.authority;
  const { cert, key } = etcd.tls!.client;
  const certificates = ['--etcd-ca', ca, '--etcd-cert', cert, '--etcd-key', key];
  const store = ['--store', `etcd://${hosts}/orders`, ...certificates, '--etcd-user', 'orders'];
  const run = (password: string) => {
    const environment = ['env', `MILLRACE_ETCD_PASSWORD=${password}`];
    const { child, outcome } = start(['demo', 'files', '--json', ...store], environment);
    child.stdin?.end();
    return outcome;
  };
  const first = await run('pw');
  assert.equal(first.code, 0, first.stderr);
  assert.notEqual(await etcd.etcdctl('get', '--prefix', '--keys-only', '/orders/'), '');
  assert.equal((await run('pw')).code, 0);
  const wrong = await run('not-the-one');
  assert.equal(wrong.code, 3, wrong.stderr);
  assert.match(wrong.stderr, /does not know the user/);
  assert.doesNotMatch(wrong.stderr, /not-the-one/);
});

test('run and demo by two processes at once: they share the work, and each hears of its own', async (t) => {
  const etcd = await EtcdCluster.start();
  t.after(() => etcd.close());
  const { write, start, folder } = setup(t);
  const hosts = etcd.endpoints.map((endpoint) => endpoint.replace('http://', '')).join();
  const twice = async (args: readonly string[], input: (n: number) => string) =>
    Promise.all(
      [0, 1].map((n) => {
        const { child, outcome } = start(args);
        child.stdin?.end(input(n));
        return outcome;
      }),
    );
  write({
    'half.mjs': `
      import { defineTask, defineTasks } from '${MILLRACE}';
      const run = async ({ n }) => { await new Promise((done) => setTimeout(done, 5)); return n / 2; };
      export default defineTasks({ half: defineTask({ name: 'half', run }) });`,
  });
  const numbers = (n: number): number[] => Array.from({ length: 300 }, (_, i) => n * 1_000 + i);
  const runs = await twice(
    ['run', 'half.mjs', '--input', '-', '--json', '--store', `etcd://${hosts}/halves`],
    (n) =>
      numbers(n)
        .map((i) => `{"n":${i}}\n`)
        .join(''),
  );
  for (const [n, { code, stdout, stderr }] of runs.entries()) {
    assert.equal(code, 0, stderr);
    const values = records<{ value: number }>(stdout).map(({ value }) => value);
    assert.deepEqual(
      values.sort((a, b) => a - b),
      numbers(n).map((i) => i / 2),
    );
  }
  linkedFiles(`${folder}/files`, 200, Buffer.from('some bytes'));
  const store = ['--store', `etcd://${hosts}/demo`];
  const demos = await twice(['demo', 'files', '--json', ...store], () => '');
  let fresh = 0;
  for (const { code, stdout, stderr } of demos) {
    assert.equal(code, 0, stderr);
    const summary = JSON.parse(stdout) as DemoSummary;
    assert.equal(summary.new + summary.takenOver + summary.doneEarlier, 200);
    fresh += summary.new;
  }
  assert.equal(fresh, 200, 'each file is a task of one of them');
});

test('what runs on etcd is listed, explained, cancelled and watched from outside', async (t) => {
  const etcd = await EtcdCluster.start();
  const { millrace } = setup(t);
  const hosts = etcd.endpoints.map((endpoint) => endpoint.replace('http://', '')).join();
  const store = `etcd://${hosts}/operated`;
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    concurrency: 1,
    run: (_input: number, ctx) =>
      new Promise((_resolve, reject) => {
        ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason), { once: true });
      }),
  });
  const runtime = await createRuntime({
    tasks: defineTasks({ work }),
    store: etcdStore({ endpoints: etcd.endpoints, namespace: 'operated' }),
    session: { ttl: '3s' },
    shutdown: { soft: 0, hard: 0 },
  });
  t.after(async () => {
    await runtime.close();
    await etcd.close();
  });
  const first = await runtime.submit(work, 1, { tenant: 'acme' });
  const asked = async (...args: string[]) => {
    const { code, stdout, stderr } = await millrace([...args, '--json', '--store', store]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  assert.equal((await asked('show', first.id)).task, 'work');
  assert.deepEqual(
    (await asked('ls', '--tenant', 'acme')).tasks.map(({ id }: { id: string }) => id),
    [first.id],
  );
  while ((await asked('show', first.id)).status !== 'running');
  // Not before: of two that come to shards that are just being taken, either may run first.
  const second = await runtime.submit(work, 2);
  assert.equal((await asked('why', first.id)).reason, 'running');
  const why = await asked('why', second.id);
  assert.equal(why.reason, 'other-node');
  assert.match(why.host, new RegExp(`:${process.pid}$`));
  const { nodes } = await asked('top');
  assert.equal(nodes.length, 1, 'whoever only looks is no member');

  assert.deepEqual(await asked('cancel', second.id, '--reason', 'enough'), {
    cancelled: 1,
    signalled: 0,
    ended: 0,
    gone: 0,
  });
  await assert.rejects(second.result(), /was cancelled: enough/);
  assert.equal((await asked('cancel', first.id)).signalled, 1);
  await assert.rejects(first.result(), { code: 'ERR_MILLRACE_TASK_CANCELLED' });
});
