/** `millrace loadtest` on etcd: several processes that run tasks, and faults that they and the servers have to get over. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { LoadReport } from '../../src/cli/loadtest/load-report.js';
import { setup } from '../cli/process.js';
import { EtcdCluster } from '../support/etcd/index.js';

let etcd: EtcdCluster;

before(async () => {
  etcd = await EtcdCluster.start({ nodes: 3 });
});
after(async () => {
  // What a test had killed and the command started again is nobody's child.
  for (const pid of processesNaming(etcd.folder)) process.kill(pid, 'SIGKILL');
  await etcd.close();
});

function storeAt(namespace: string): string {
  const hosts = etcd.endpoints.map((endpoint) => endpoint.replace(/^https?:\/\//, ''));
  return `etcd://${hosts.join(',')}/${namespace}`;
}

/** Processes of this machine with this text among their arguments. */
function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        // It has ended since.
        return false;
      }
    });
}

test('two nodes run the tasks of a client, one is killed, and of each task there is one result', async (t) => {
  const { millrace } = setup(t);
  const load = ['--rate', '100', '--seconds', '5', '--nodes', '2', '--threads', '1'];
  const faults = ['--faults', 'kill', '--fault-every', '2s'];
  const words = ['loadtest', '--store', storeAt('kill'), ...load, ...faults, '--json'];
  const { code, stdout, stderr } = await millrace(words);
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as LoadReport;
  assert.equal(report.delivery.completed, 500);
  assert.ok(report.isExact);
  assert.ok(report.faults.length >= 1, 'something went wrong');
  assert.match(report.faults[0]!.result, /^killed node \d \(pid \d+\), replaced by pid \d+$/);
  assert.deepEqual(
    report.processes.map(({ name }) => name),
    ['this process', 'node 1', 'node 2'],
  );
  const lives = report.processes.reduce((sum, each) => sum + each.lives, 0);
  assert.equal(lives, 3 + report.faults.length, 'each kill is another life of a node');
  assert.ok(report.processes[0]!.watchMs.count > 0, 'watches were timed');
});

test('the etcd server that leads is killed and comes back, and nothing is lost', async (t) => {
  const { millrace } = setup(t);
  const load = ['--rate', '50', '--seconds', '4', '--threads', '1'];
  const faults = ['--faults', 'leader-kill', '--fault-every', '2s'];
  const words = ['loadtest', '--store', storeAt('leader'), ...load, ...faults, '--json'];
  const { code, stdout, stderr } = await millrace(words);
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as LoadReport;
  assert.ok(report.isExact);
  assert.match(report.faults[0]!.result, /^killed the leading etcd .*, and started it again$/);
});
