import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  clockSkew,
  environment,
  etcdEndpoints,
  etcdVersions,
  fileDescriptors,
  nodeVersion,
  quota,
  roundTrip,
} from '../../src/cli/doctor-checks.js';
import { createRuntime, defineTask, defineTasks, fileStore } from '../../src/index.js';
import { setup } from './process.js';

const levels = (findings: readonly { readonly level: string }[]): string[] =>
  findings.map(({ level }) => level);

test('a Node.js that is too old fails, on both sides of the bound', () => {
  assert.equal(nodeVersion('20.18.3').level, 'fail');
  assert.equal(nodeVersion('20.19.0').level, 'ok');
  assert.equal(nodeVersion('24.1.0').level, 'ok');
});

test('a low limit of open files is a warning with the way out', () => {
  const limits = (soft: string): string => `Max open files            ${soft}     524288   files\n`;
  const [low] = fileDescriptors(limits('1024'));
  assert.equal(low?.level, 'warn');
  assert.match(low?.message ?? '', /1 024 is below 4 096.*ulimit -n/);
  assert.deepEqual(levels(fileDescriptors(limits('4096'))), ['ok']);
  assert.deepEqual(levels(fileDescriptors(limits('unlimited'))), ['ok']);
  assert.deepEqual(fileDescriptors(undefined), []);
});

test('what is known to be wrong with an etcd server is named', () => {
  const server = { endpoint: 'a:2379', version: '3.5.16' };
  const [sick, well] = etcdVersions([
    { ...server, bugs: ['it stalls'] },
    { ...server, bugs: [] },
  ]);
  assert.equal(sick?.level, 'warn');
  assert.match(sick?.message ?? '', /3\.5\.16: it stalls; upgrade it/);
  assert.equal(well?.level, 'ok');
});

test('one endpoint, and a network without TLS, are smells', () => {
  assert.deepEqual(levels(etcdEndpoints(['db-1:2379'], false)), ['warn', 'warn']);
  assert.deepEqual(levels(etcdEndpoints(['db-1:2379', 'db-2:2379'], true)), []);
  assert.deepEqual(levels(etcdEndpoints(['localhost:1', '127.0.0.1:2'], false)), []);
});

test('clocks that differ are told with sign and size; a heartbeat that is just old is not', () => {
  const nowMs = 1_000_000;
  const skew = (atMs: number) => clockSkew([{ node: 'n', atMs, everyMs: 5_000 }], nowMs)[0]!;
  assert.equal(skew(nowMs - 4_900).level, 'ok');
  assert.match(skew(nowMs + 2_000).message, /2000 ms ahead of/);
  assert.match(skew(nowMs - 60_000).message, /55000 ms behind/);
});

test('a slow store, a full one and a switched-off healing are warnings', () => {
  assert.deepEqual(levels([roundTrip(3), roundTrip(51)]), ['ok', 'warn']);
  assert.deepEqual(levels([quota({ bytes: 59, bytesMax: 100 })]), ['ok']);
  assert.deepEqual(levels([quota({ bytes: 60, bytesMax: 100 })]), ['warn']);
  assert.ok(levels(environment({ MILLRACE_HEALING: 'off' })).includes('warn'));
  assert.ok(!levels(environment({})).includes('fail'));
});

test('millrace doctor looks at the machine and the store, in words and as JSON', async (t) => {
  const { folder, millrace } = setup(t);
  const missing = await millrace(['doctor', '--store', 'data', '--json']);
  assert.equal(missing.code, 3);
  const told = JSON.parse(missing.stdout) as { level: string; findings: { check: string }[] };
  assert.equal(told.level, 'fail');
  assert.ok(told.findings.some(({ check }) => check === 'native core'));

  const work = defineTask({ name: 'work', exec: 'inline', run: () => {} });
  const runtime = await createRuntime({
    tasks: defineTasks({ work }),
    store: fileStore(`${folder}/data`),
  });
  t.after(() => runtime.close());
  const well = await millrace(['doctor', '--store', 'data']);
  assert.equal(well.code, 0, well.stdout);
  assert.match(well.stdout, /^ok {4}nodes {8}1 that run tasks$/m);
  assert.match(well.stdout, /^ok {4}store {8}a read takes/m);
});
