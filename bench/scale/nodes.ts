/** What a task costs each kind of process when so many nodes share one etcd. */
import { readFileSync } from 'node:fs';
import { sharedNowMs } from '../../src/cli/loadtest/arrivals.js';
import { Fleet } from '../../src/cli/loadtest/fleet.js';
import { work } from '../../src/cli/loadtest/load-tasks.js';
import { prefixRange } from '../../src/core/store.js';
import { createClient } from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { systemClock } from '../../src/timing/system-clock.js';
import { EtcdCluster, NotToBeHad } from '../../test/support/etcd/index.js';
import { type Sample, Unavailable } from '../lib/bench.js';
import { noopLoop } from './loop.js';
import type { ScaleSettings } from './settings.js';

const NAMESPACE = 'scale';
/** Of Linux, in /proc. */
const TICKS_PER_SECOND = 100;

/** @throws Unavailable without etcd */
export async function onNodes(
  count: number,
  place: string,
  settings: ScaleSettings,
): Promise<Sample> {
  const etcd = await EtcdCluster.start().catch((error: unknown) => {
    throw error instanceof NotToBeHad ? new Unavailable(error.message) : error;
  });
  const { endpoints } = etcd;
  const hosts = endpoints.map((endpoint) => endpoint.replace(/^https?:\/\//, '')).join(',');
  const fleet = new Fleet(count, {
    options: [['store', `etcd://${hosts}/${NAMESPACE}`]],
    threads: 1,
  });
  const store = etcdStore({ endpoints, namespace: NAMESPACE });
  try {
    await fleet.start();
    const client = await createClient({ store, tasks: [work] });
    const look = await store.open({ clock: systemClock });
    const revision = async (): Promise<number> =>
      (await look.range(prefixRange(''), { limit: 1, keysOnly: true })).revision;
    let etcdUs = 0;
    let revisions = 0;
    const loop = await noopLoop(client, settings, async (measure) => {
      fleet.begin(sharedNowMs());
      const [cpuBefore, revisionBefore] = [cpuUsOf(etcd.node.pid!), await revision()];
      const result = await measure();
      etcdUs = cpuUsOf(etcd.node.pid!) - cpuBefore;
      revisions = (await revision()) - revisionBefore;
      return result;
    });
    await look.close();
    await client.close();
    await fleet.stop();
    const { nodeCpuUs, nodeMs } = nodeTime(fleet);
    const perMs = loop.tasks / loop.elapsedMs;
    return {
      metrics: {
        [`tasksPerSecond@${place}`]: perMs * 1_000,
        // Nodes are looked at a little longer than the loop is measured: their share of a second counts.
        [`nodeCpuUs@${place}`]: nodeCpuUs / nodeMs / perMs,
        [`clientCpuUs@${place}`]: loop.cpuUs / loop.tasks,
        [`etcdCpuUs@${place}`]: etcdUs / loop.tasks,
        [`tasksPerRevision@${place}`]: loop.tasks / revisions,
      },
    };
  } finally {
    await fleet.stop();
    await etcd.close();
  }
}

/** CPU time of all nodes in the whole seconds that they have told of, and how long that was. */
function nodeTime(fleet: Fleet): { readonly nodeCpuUs: number; readonly nodeMs: number } {
  const reports = fleet.reports();
  const seconds = Math.min(...reports.map(({ seconds: told }) => told.length));
  let cores = 0;
  for (const { seconds: told } of reports) {
    // The first second begins in the middle of one, the last ones are after the load.
    for (const { cpuShare } of told.slice(0, seconds)) cores += cpuShare;
  }
  return { nodeCpuUs: cores * 1e6, nodeMs: seconds * 1_000 };
}

/** CPU time of another process. Fields of /proc/<pid>/stat after the name: 12 is utime, 13 stime. */
function cpuUsOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
}
