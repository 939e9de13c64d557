/**
 * What it costs to know of tenants: to read what a process has cached, to write, and until others know.
 *
 *   cache   a million entries in the cache of one process; no server
 *   fleet   this process, ten others and an etcd of its own, all on this machine: one node, loopback, fsync as etcd does it
 *
 * `etcd-get` is what there is without a cache: a linearizable get for each read, and a bare transaction (one compare, one
 * put) for each write. Ten processes and a server share the cores with the writer, so what they wait for one another is in
 * the figures of the fleet.
 */
import { etcdBinaries } from '../../test/support/etcd/index.js';
import { defineBench, type Sample } from '../lib/bench.js';
import { millraceVersion, syncedDurability } from '../lib/places.js';
import type { MetadataSettings } from './settings.js';

/** Collections on demand: memory is what is left after them. */
const CACHE = { name: 'cache', nodeFlags: ['--expose-gc'] };
const FLEET = { name: 'fleet' };

export default defineBench<MetadataSettings>({
  name: 'metadata',
  question: 'what does it cost to know of tenants, and until all processes know?',
  metrics: {
    cachedReadsPerSecond: {
      unit: 'reads/s',
      better: 'higher',
      about: 'one thread, raw bytes, a million entries, in random order, one after another',
    },
    'cachedReadsPerSecond@batch': {
      unit: 'reads/s',
      better: 'higher',
      about: 'the same, 64 of them asked for together',
    },
    allocBytesPerRead: { unit: 'B', better: 'lower', about: 'JavaScript heap, per read' },
    writeP50Ms: { unit: 'ms', better: 'lower', about: 'one writer, one write after another' },
    propagationP99Ms: {
      unit: 'ms',
      better: 'lower',
      about: 'from the call of a write until another process has it in its cache, ten processes',
    },
    'configPushMs@1000': {
      unit: 'ms',
      better: 'lower',
      about: 'from setting a value until the last of 1000 subscribers in ten processes is told',
    },
    bytesPerEntry: {
      unit: 'B',
      better: 'lower',
      about: 'memory for each of a million entries, the value left out',
    },
  },
  ours: ['millrace'],
  contenders: [
    {
      name: 'millrace',
      version: millraceVersion(),
      durability: syncedDurability(),
      settings: { store: 'etcdStore', bus: "the store's watch" },
      parts: [CACHE, FLEET],
      async run(settings, context): Promise<Sample> {
        if (context.part === CACHE.name) {
          const { measureCache } = await import('./cache.js');
          return measureCache(settings, context);
        }
        const { measureFleet } = await import('./fleet.js');
        const { version } = await etcdBinaries();
        const sample = await measureFleet(settings);
        return { ...sample, notes: { ...sample.notes, etcd: version } };
      },
    },
    {
      name: 'etcd-get',
      version: millraceVersion(),
      durability: syncedDurability(),
      settings: { store: 'etcdStore', cache: 'none' },
      metrics: ['cachedReadsPerSecond', 'allocBytesPerRead', 'writeP50Ms'],
      async run(settings): Promise<Sample> {
        const { measureBare } = await import('./bare.js');
        return measureBare(settings);
      },
    },
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick }) => ({
    scale: isQuick ? 0.1 : 1,
    entries: isQuick ? 100_000 : 1_000_000,
    entriesPerTenant: 100,
    valueBytes: 64,
    reads: isQuick ? 2_000_000 : 20_000_000,
    readers: 10,
    subscribers: 1_000,
    writes: isQuick ? 200 : 2_000,
    propagations: isQuick ? 50 : 300,
    pushes: isQuick ? 5 : 30,
  }),
  seconds: ({ entries, writes, propagations, pushes }, contender, part) => {
    if (part === CACHE.name) return 3 + entries / 100_000;
    const own = 4 + writes / 400;
    return contender === 'millrace' ? own + 8 + (propagations + pushes) / 20 : own + writes / 400;
  },
});
