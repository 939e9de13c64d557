/**
 * An etcd for development: `npm run etcd:up [-- --nodes 3]`, and `npm run etcd:down` ends it and removes its data.
 *
 * Servers come from PATH or out of Debian's packages, listen on free ports of 127.0.0.1, and sync for real. Which
 * processes they are is kept in .cache/etcd.json; `up` again shows the ones there are.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { at, fail, isAlive, readText, run } from './lib/project.mjs';

const STATE = at('.cache/etcd.json');
const FOLDER = at('.cache/etcd-data');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { nodes: { type: 'string', default: '1' } },
});
const nodes = Number(values.nodes);
if (!['up', 'down'].includes(positionals[0]) || !Number.isInteger(nodes) || nodes < 1) {
  fail('usage: npm run etcd:up [-- --nodes <n>], npm run etcd:down');
}
await (positionals[0] === 'up' ? up() : down());

async function up() {
  const known = running();
  if (known !== undefined) {
    show(known, 'runs already');
    return;
  }
  if (!run(process.execPath, [at('scripts/build-ts.mjs')])) fail('the project does not build');
  const { EtcdCluster } = await import(at('dist/test/support/etcd/index.js'));
  rmSync(FOLDER, { recursive: true, force: true });
  const cluster = await EtcdCluster.start({ nodes, isDetached: true, folder: FOLDER }).catch(
    (error) => fail(error.message),
  );
  const { endpoints, version, nodes: started } = cluster;
  const { program } = cluster.etcdctlCommand();
  const state = { version, endpoints, pids: started.map(({ pid }) => pid), etcdctl: program };
  mkdirSync(at('.cache'), { recursive: true });
  writeFileSync(STATE, JSON.stringify(state));
  show(state, 'is up');
}

async function down() {
  const state = running();
  for (const pid of state?.pids ?? []) process.kill(pid, 'SIGKILL');
  // They are not our children, so there is no event for their end.
  while (state?.pids.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 20));
  rmSync(FOLDER, { recursive: true, force: true });
  rmSync(STATE, { force: true });
  console.log(state === undefined ? 'no etcd of this project runs' : 'etcd is down, its data gone');
}

/** What was started and still runs. */
function running() {
  const text = readText(STATE);
  const state = text === undefined ? undefined : JSON.parse(text);
  return state?.pids.some(isAlive) ? state : undefined;
}

function show({ version, endpoints, etcdctl }, what) {
  console.log(`etcd ${version} ${what}: ${endpoints.join(',')}`);
  console.log(`ETCDCTL_API=3 ${etcdctl} --endpoints=${endpoints.join(',')} endpoint status`);
}
