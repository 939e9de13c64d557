/** The servers that the other tests rely on: do they start, fail and vanish as asked? */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { EtcdCluster } from '../../support/etcd/index.js';

describe('one node', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500, quotaBytes: 16 << 20 });
  });
  after(() => etcd.close());

  test('answers, leads, and keeps what was acknowledged through a kill', async () => {
    assert.equal(await etcd.leader(), etcd.node);
    await etcd.etcdctl('put', 'survivor', 'yes');
    await etcd.node.kill();
    assert.equal(etcd.node.isRunning, false);
    await etcd.node.start();
    assert.equal(await etcd.etcdctl('get', '--print-value-only', 'survivor'), 'yes\n');
  });

  test('a stopped node does not answer; one that goes on does', async () => {
    etcd.node.stop();
    assert.equal(await etcd.node.metric('etcd_server_is_leader'), undefined);
    etcd.node.cont();
    assert.equal(await etcd.node.metric('etcd_server_is_leader'), 1);
  });

  test('has the quota and the short leases it was asked for', async () => {
    assert.equal(await etcd.node.metric('etcd_server_quota_backend_bytes'), 16 << 20);
    assert.match(await etcd.etcdctl('lease', 'grant', '1'), /granted with TTL\(1s\)/);
  });

  test('with users: root may do all, the limited one its prefix only', async () => {
    await etcd.enableAuth('secret', { name: 'limited', password: 'pw', prefix: 'mine/' });
    await etcd.etcdctl('put', 'theirs/1', 'x');
    const limited = ['--user=limited:pw', 'put'];
    const { program, env } = etcd.etcdctlCommand();
    const put = async (key: string): Promise<number> => {
      const args = [`--endpoints=${etcd.endpoints}`, ...limited, key, 'x'];
      const [code] = await once(spawn(program, args, { env, stdio: 'ignore' }), 'exit');
      return code as number;
    };
    assert.equal(await put('mine/1'), 0);
    assert.notEqual(await put('theirs/1'), 0);
  });
});

describe('three nodes', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ nodes: 3, electionMs: 500, canPart: true });
  });
  after(() => etcd.close());

  test('another one leads when the leader is killed, and the dead one can come back', async () => {
    const first = await etcd.leader();
    await first.kill();
    const second = await etcd.leader();
    assert.notEqual(second, first);
    await first.start();
    await etcd.etcdctl('put', 'a', '1');
  });

  test('a leader parted from the others stops leading, and follows once it is back', async () => {
    const first = await etcd.leader();
    etcd.part(first);
    await etcd.leader(first);
    while ((await first.metric('etcd_server_has_leader')) !== 0) {
      assert.ok(first.isRunning);
    }
    etcd.heal();
    while ((await first.metric('etcd_server_has_leader')) !== 1) {
      assert.ok(first.isRunning);
    }
  });
});

test('TLS: clients need a certificate of the authority when the server says so', async (t) => {
  const etcd = await EtcdCluster.start({ tls: { requiresClient: true } });
  t.after(() => etcd.close());
  await etcd.etcdctl('put', 'a', '1');
  const { program, env } = etcd.etcdctlCommand();
  const args = [`--endpoints=${etcd.endpoints}`, `--cacert=${etcd.tls?.authority.ca}`];
  const anonymous = spawn(program, [...args, '--dial-timeout=1s', 'get', 'a'], {
    env,
    stdio: 'ignore',
  });
  const [code] = await once(anonymous, 'exit');
  assert.notEqual(code, 0);
});

test('a process that is killed leaves no server and no data behind', async () => {
  const module = new URL('../../support/etcd/index.js', import.meta.url);
  const script = `
    const { EtcdCluster } = await import('${module}');
    const { node, folder } = await EtcdCluster.start();
    console.log(JSON.stringify({ pid: node.pid, folder }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  const { pid, folder } = JSON.parse(line) as { pid: number; folder: string };
  assert.ok(isAlive(pid) && existsSync(folder));
  child.kill('SIGKILL');
  // Nobody tells us when a process ends that is not our child.
  while (isAlive(pid) || existsSync(folder))
    await new Promise((resolve) => setTimeout(resolve, 10));
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
