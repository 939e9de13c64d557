/** Reads and writes without a cache: a get of etcd for each read, a transaction with one compare and one put for each write. */
import { etcdStore } from '../../src/store/etcd/index.js';
import { systemClock } from '../../src/timing/system-clock.js';
import { EtcdCluster } from '../../test/support/etcd/index.js';
import { CollectorWatch } from '../gc/watch.js';
import type { Sample } from '../lib/bench.js';
import type { MetadataSettings } from './settings.js';
import { percentile } from './times.js';

const IN_FLIGHT = 16;

export async function measureBare({ writes, valueBytes }: MetadataSettings): Promise<Sample> {
  const etcd = await EtcdCluster.start();
  const store = await etcdStore({ endpoints: etcd.node.endpoint, namespace: 'bench' }).open({
    clock: systemClock,
  });
  try {
    const value = new Uint8Array(valueBytes).fill(7);
    const times: number[] = [];
    for (let i = 0; i < writes; i++) {
      const key = `bare/${i}`;
      const startAt = performance.now();
      const { kind } = await store.txn({
        compares: [{ target: 'mod', key, operator: '=', operand: 0 }],
        success: [{ type: 'put', key, value }],
      });
      if (kind !== 'done') throw new Error(`a transaction was ${kind}`);
      if (i >= writes / 10) times.push(performance.now() - startAt);
    }
    const read = async (lane: number, count: number): Promise<void> => {
      for (let i = lane; i < count; i += IN_FLIGHT) {
        const entry = await store.get(`bare/${i % writes}`);
        if (entry?.value.length !== valueBytes) throw new Error('a read was answered wrongly');
      }
    };
    const readAll = (count: number): Promise<unknown> =>
      Promise.all(Array.from({ length: IN_FLIGHT }, (_, lane) => read(lane, count)));
    const reads = writes * 5;
    await readAll(writes);
    const collector = new CollectorWatch();
    collector.start();
    const startAt = performance.now();
    await readAll(reads);
    const seconds = (performance.now() - startAt) / 1000;
    const { allocatedBytes } = await collector.stop();
    return {
      metrics: {
        cachedReadsPerSecond: reads / seconds,
        allocBytesPerRead: allocatedBytes / reads,
        writeP50Ms: percentile(times, 0.5),
      },
      notes: { etcd: etcd.version, readsInFlight: IN_FLIGHT, writeP99Ms: percentile(times, 0.99) },
    };
  } finally {
    await store.close();
    await etcd.close();
  }
}
