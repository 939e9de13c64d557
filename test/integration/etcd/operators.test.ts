/** What operators ask of a store that is on a real etcd: by the command line, with and without nodes. */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { createRuntime, defineTask, defineTasks } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { setup } from '../../cli/process.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import { until } from '../../support/limit.js';

interface Finding {
  readonly check: string;
  readonly level: string;
  readonly message: string;
}

describe('operators on etcd', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start();
  });
  after(() => etcd.close());

  async function scene(t: TestContext) {
    const { millrace } = setup(t);
    const namespace = freshNamespace();
    let isBroken = true;
    const charge = defineTask({
      name: 'charge',
      exec: 'inline',
      retry: { attempts: 1 },
      run: (cents: number) => {
        if (isBroken) throw new Error('the bank is down');
        return cents;
      },
    });
    const start = async () => {
      const runtime = await createRuntime({
        tasks: defineTasks({ charge }),
        store: etcdStore({ endpoints: etcd.endpoints, namespace }),
        session: { ttl: '3s' },
      });
      t.after(() => runtime.close());
      return runtime;
    };
    const hosts = etcd.endpoints.map((endpoint) => endpoint.replace('http://', '')).join();
    const ask = (...args: string[]) =>
      millrace([...args, '--store', `etcd://${hosts}/${namespace}`]);
    return {
      charge,
      start,
      ask,
      repair: () => {
        isBroken = false;
      },
    };
  }

  test('retry and redrive are done by the nodes that hold the tasks', async (t) => {
    const { charge, start, ask, repair } = await scene(t);
    const runtime = await start();
    const handles = await Promise.all(
      [1, 2, 3].map((cents) => runtime.submit(charge, cents, { tenant: cents < 3 ? 'a' : 'b' })),
    );
    for (const handle of handles) assert.equal((await handle.settled()).status, 'failed');
    const dry = await ask('redrive', '--tenant', 'a', '--dry-run', '--json');
    assert.equal((JSON.parse(dry.stdout) as { tasks: unknown[] }).tasks.length, 2, dry.stderr);
    repair();
    const one = await ask('retry', handles[2]!.id, '--json');
    assert.deepEqual(JSON.parse(one.stdout), { redriven: 1, open: 0, ended: 0, gone: 0 });
    const many = await ask('redrive', '--tenant', 'a');
    assert.equal(many.code, 0, many.stderr);
    assert.match(many.stdout, /^2 tasks will run again/);
    assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), [1, 2, 3]);
  });

  test('where no node holds the tasks, a command waits so long, and is done when there is one', async (t) => {
    const { charge, start, ask, repair } = await scene(t);
    const runtime = await start();
    const handle = await runtime.submit(charge, 7);
    await handle.settled();
    await runtime.close();
    repair();
    const late = await ask('retry', handle.id, '--wait', '1');
    assert.equal(late.code, 3);
    assert.match(late.stderr, /no node that holds the tasks answered within 1 s.*--wait/);
    const again = (await start()).handle(charge, handle.id);
    await until('it runs again', async () => (await again.status()) !== 'failed');
    assert.equal(await again.result({ timeout: '20s' }), 7);
  });

  test('doctor looks at the servers, the quota, the nodes and their clocks', async (t) => {
    const { charge, start, ask } = await scene(t);
    const look = async (): Promise<{ code: number | null; findings: readonly Finding[] }> => {
      const { code, stdout, stderr } = await ask('doctor', '--json');
      assert.notEqual(stdout, '', stderr);
      return { code, ...(JSON.parse(stdout) as { findings: readonly Finding[] }) };
    };
    const of = (findings: readonly Finding[], check: string) =>
      findings.filter((finding) => finding.check === check);
    const before = await look();
    assert.equal(before.code, 0);
    assert.match(of(before.findings, 'nodes')[0]!.message, /no process is there/);
    const runtime = await start();
    const handle = await runtime.submit(charge, 1);
    await handle.settled();
    const { code, findings } = await look();
    assert.equal(code, 0);
    assert.match(of(findings, 'etcd')[0]!.message, /has version 3\.\d+\.\d+/);
    assert.match(of(findings, 'quota')[0]!.message, /are in use/);
    assert.match(of(findings, 'nodes')[0]!.message, /^1 that run/);
    assert.equal(of(findings, 'clock')[0]!.level, 'ok');
    assert.match(of(findings, 'dead letters')[0]!.message, /^1 tasks? failed for good/);
    // It has put nothing: only the runtime is a member.
    const top = await ask('top', '--json');
    assert.equal((JSON.parse(top.stdout) as { nodes: unknown[] }).nodes.length, 1);
  });

  test('doctor says what is wrong when no server answers', async (t) => {
    const { millrace } = setup(t);
    const { code, stdout } = await millrace([
      ...['doctor', '--json', '--store', 'etcd://127.0.0.1:9/nowhere'],
    ]);
    assert.equal(code, 3);
    const { findings } = JSON.parse(stdout) as { findings: readonly Finding[] };
    const store = findings.find(({ check }) => check === 'store');
    assert.equal(store?.level, 'fail');
  });
});
