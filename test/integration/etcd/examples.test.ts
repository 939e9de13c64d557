/** The example of producers and workers as services of their own, on three etcd members as its compose file starts them. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EtcdCluster } from '../../support/etcd/index.js';
import { soon } from '../../support/limit.js';

/** Absolute path of the project: four levels above dist/test/integration/etcd. */
const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const COMPOSE = readFileSync(join(ROOT, 'examples/services-on-etcd/compose.yaml'), 'utf8');
/** What says where a member is; the test's own cluster has this of its own. */
const OF_PLACE = /^--(name|data-dir|initial-|listen-|advertise-)/;

test('services-on-etcd: workers share what a producer hands in, each order once; one of them may go', async (t) => {
  const flags = [...COMPOSE.matchAll(/^ +- (--\S+)$/gm)].map(([, flag]) => flag!);
  const common = [...new Set(flags.filter((flag) => !OF_PLACE.test(flag)))];
  assert.equal(flags.filter((flag) => flag.startsWith('--name=')).length, 3);
  assert.ok(common.length >= 3);
  const etcd = await EtcdCluster.start({ nodes: 3, flags: common });
  t.after(() => etcd.close());
  const children: ChildProcess[] = [];
  t.after(() => {
    for (const child of children) child.kill('SIGKILL');
  });
  const commands = [...COMPOSE.matchAll(/command: \[node, (.*)\]/g)].map(([, words]) =>
    words!.split(', ').map((word) => word.replaceAll(/['"]/g, '')),
  );
  const start = ([script, ...args]: readonly string[]): ChildProcess => {
    const file = join(ROOT, script!);
    assert.ok(existsSync(file), file);
    const child = spawn(process.execPath, [file, ...args], {
      env: { ...process.env, ETCD: etcd.endpoints.join() },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    return child;
  };
  const [first, ...others] = commands.filter(([script]) => script?.includes('worker'));
  assert.equal(others.length, 2);
  const worker = start(first!);
  const ready = [worker, ...others.map(start)].map((child) =>
    once(createInterface({ input: child.stdout! }), 'line'),
  );
  await soon('workers', Promise.all(ready));
  const produce = async (): Promise<string> => {
    const child = start(commands.find(([script]) => script?.includes('producer'))!);
    return (await soon('the producer', text(child.stdout!))).trim();
  };
  const sum = (1_000 * 1_001) / 2 + 1_000 * 100;
  assert.equal(await produce(), `1000 new, 0 known, invoices of ${sum} cents`);
  const ended = once(worker, 'exit');
  worker.kill('SIGTERM');
  assert.deepEqual(await soon('the worker', ended), [0, null]);
  assert.equal(await produce(), `0 new, 1000 known, invoices of ${sum} cents`);
});
