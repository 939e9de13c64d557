/**
 * How long the tasks of a node wait that is killed: two nodes share the shards of a queue, one dies by `kill -9` while
 * it holds tasks that are due a moment later, and the other one has to notice, take over, and run them.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createClient, createRuntime } from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { systemClock } from '../../src/timing/system-clock.js';
import { EtcdCluster } from '../../test/support/etcd/index.js';
import type { Sample } from '../lib/bench.js';
import { percentile } from '../lib/stats.js';
import { note, runs } from './takeover-tasks.js';

const TTL_MS = 5_000;
/** Each in a segment of its own: the dead node certainly has some of them. */
const TASKS = 32;
/** From the first submit: all are accepted by then, and none has run. */
const DUE_MS = 1_000;
const SHARDS = 64;
const POLL_MS = 20;
const HANG_MS = 60_000;

export async function takeover(kills: number): Promise<Sample> {
  const etcd = await EtcdCluster.start({ nodes: 1 });
  const namespace = 'takeover';
  const store = etcdStore({ endpoints: etcd.endpoints, namespace });
  const runtime = await createRuntime({
    tasks: new URL('./takeover-tasks.js', import.meta.url),
    store,
    session: { ttl: TTL_MS },
  });
  const client = await createClient({ store, tasks: [note] });
  const look = await store.open({ clock: systemClock });
  const ran = new Set<number>();
  runs.on('ran', (number) => {
    if (ran.has(number)) throw new Error(`task ${number} ran twice`);
    ran.add(number);
  });
  /** Resolves when each of two nodes has its part of the shards. */
  const shared = async (): Promise<void> => {
    for (const beganAt = performance.now(); performance.now() - beganAt < HANG_MS; ) {
      const { entries } = await look.range({ from: 'o/', to: 'o0' });
      const owners = new Set(entries.map(({ value }) => Buffer.from(value).toString()));
      if (entries.length === SHARDS && owners.size === 2) return;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new Error('the shards were not shared in time');
  };
  const times = new Float64Array(kills);
  for (let kill = 0; kill < kills; kill++) {
    const node = startNode(etcd.endpoints.join(','), namespace);
    await once(node, 'message');
    await shared();
    // At any moment between two renewals: else every kill would find leases of one age.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * (TTL_MS / 3)));
    const numbers = Array.from({ length: TASKS }, (_, i) => kill * TASKS + i);
    const at = Date.now() + DUE_MS;
    // One after another: those of one moment would share a segment, and so a shard.
    for (const number of numbers) await client.submit(note, number, { at });
    if (Date.now() >= at) throw new Error(`submitting ${TASKS} tasks took ${DUE_MS} ms`);
    node.kill('SIGKILL');
    const killedAt = performance.now();
    while (ran.size < (kill + 1) * TASKS)
      await once(runs, 'ran', { signal: AbortSignal.timeout(HANG_MS) });
    times[kill] = performance.now() - killedAt;
  }
  await client.close();
  await runtime.close();
  await look.close();
  await etcd.close();
  times.sort();
  return {
    metrics: { takeoverP50Ms: percentile(times, 0.5), takeoverMaxMs: times[kills - 1] ?? null },
    notes: { kills, ttlMs: TTL_MS },
  };
}

function startNode(endpoints: string, namespace: string): ChildProcess {
  const program = new URL('./takeover-node.js', import.meta.url);
  return fork(program, [endpoints, namespace, String(TTL_MS)], { execArgv: [] });
}
