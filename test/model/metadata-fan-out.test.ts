/**
 * Many who want to know: 100 000 subscribers in one process over one watch, and a fleet of 1 000 processes in a tree, where
 * each inner node passes on what it hears to the 32 below it. Memory and delays are reported with the tests.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { seededRandom } from '../../src/core/random.js';
import { memoryStore } from '../../src/store/index.js';
import type { Bus, BusListener, News } from '../../src/tenancy/bus.js';
import { Config } from '../../src/tenancy/config.js';
import { Metadata } from '../../src/tenancy/metadata.js';
import { WatchBus } from '../../src/tenancy/watch-bus.js';
import { VirtualClock } from '../../src/testing/index.js';
import { FaultyStore } from '../support/faulty-store.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function memoryBytes(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test('100 000 subscribers of one process are told of 1 000 changes over one watch', async (t) => {
  const SUBSCRIBERS = 100_000;
  const ENTRIES = 1_000;
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }), clock);
  let watches = 0;
  const { watch } = store;
  store.watch = (...args) => {
    watches++;
    return watch.apply(store, args);
  };
  const random = seededRandom(1);
  const bus = new WatchBus(clock, random.fork('bus'), store);
  const metadata = new Metadata({ clock, random, store, bus, cacheBytes: 4 * 1024 ** 2 });
  await metadata.start();
  const told = new Uint32Array(ENTRIES);
  const before = memoryBytes();
  const stops: (() => void)[] = [];
  for (let i = 0; i < SUBSCRIBERS; i++) {
    const entry = i % ENTRIES;
    stops.push(
      metadata.watch('acme', 'x', `${entry}`, () => {
        told[entry]!++;
      }),
    );
  }
  await clock.settle();
  const each = (memoryBytes() - before) / SUBSCRIBERS;
  told.fill(0);
  for (let entry = 0; entry < ENTRIES; entry++) {
    await metadata.put('acme', 'x', `${entry}`, entry);
  }
  const startAt = performance.now();
  await clock.settle();
  const elapsedMs = performance.now() - startAt;
  assert.deepEqual(new Set(told), new Set([SUBSCRIBERS / ENTRIES]));
  assert.equal(watches, 1);
  t.diagnostic(
    `${Math.round(each)} bytes a subscriber, the last told after ${elapsedMs.toFixed(1)} ms`,
  );
  assert.ok(each < 800, `${each} bytes`);
  for (const stop of stops) stop();
  assert.equal(metadata.stats().watched, 0);
  await metadata.stop();
  await store.close();
});

/** A bus that hears from the node above it, some milliseconds later, and passes on what it hears. */
class Relay implements Bus {
  readonly isOrdered = true;
  readonly recheckMs = Number.POSITIVE_INFINITY;
  readonly below: BusListener[] = [];
  readonly #clock: VirtualClock;
  readonly #above: Bus & { readonly below: BusListener[] };
  readonly #hopMs: number;

  constructor(clock: VirtualClock, above: Bus & { readonly below: BusListener[] }, hopMs: number) {
    this.#clock = clock;
    this.#above = above;
    this.#hopMs = hopMs;
  }

  async start(listener: BusListener): Promise<void> {
    this.#above.below.push({
      onNews: (news) => this.#later(() => tellAll([listener, ...this.below], news)),
      onRevision: (revision) =>
        this.#later(() => {
          for (const each of [listener, ...this.below]) each.onRevision(revision);
        }),
      recheck: (revision) => listener.recheck(revision),
    });
  }

  publish(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  #later(work: () => void): void {
    this.#clock.wakeIn(this.#hopMs, work);
  }
}

function tellAll(listeners: readonly BusListener[], news: News): void {
  for (const listener of listeners) listener.onNews(news);
}

test('a tree of 1 000 processes knows a value two hops after its root', async (t) => {
  const NODES = 1_000;
  const WIDTH = 32;
  const HOP_MS = 2;
  const clock = new VirtualClock();
  const factory = memoryStore();
  const store = await factory.open({ clock });
  const before = memoryBytes();
  const random = seededRandom(1);
  const root = new WatchBus(clock, random.fork('bus'), store);
  const below: BusListener[] = [];
  const rootBus = Object.assign(root, { below });
  const { start } = root;
  root.start = (listener) =>
    start.call(root, {
      onNews: (news) => tellAll([listener, ...below], news),
      onRevision: (revision) => {
        for (const each of [listener, ...below]) each.onRevision(revision);
      },
      recheck: (revision) => listener.recheck(revision),
    });
  const buses: (Bus & { readonly below: BusListener[] })[] = [rootBus];
  const nodes: { readonly metadata: Metadata; value: unknown; atMs: number }[] = [];
  for (let i = 0; i < NODES; i++) {
    const bus = i === 0 ? rootBus : new Relay(clock, buses[Math.floor((i - 1) / WIDTH)]!, HOP_MS);
    if (i > 0) buses.push(bus);
    const metadata = new Metadata({
      clock,
      random: seededRandom(i),
      store,
      bus,
      cacheBytes: 64 * 1024,
    });
    await metadata.start();
    const node = { metadata, value: undefined as unknown, atMs: 0 };
    new Config(metadata).watch('limit', (value) => {
      node.value = value;
      node.atMs = clock.monoMs();
    });
    nodes.push(node);
  }
  await clock.advance(100);
  const each = (memoryBytes() - before) / NODES;
  const sentAtMs = clock.monoMs();
  await new Config(nodes[NODES - 1]!.metadata).set('limit', 7);
  await clock.advance(100);
  assert.deepEqual(new Set(nodes.map(({ value }) => value)), new Set([7]));
  const lastMs = Math.max(...nodes.map(({ atMs }) => atMs)) - sentAtMs;
  t.diagnostic(
    `${Math.round(each / 1024)} KiB a process, the last told after ${lastMs} ms of ${HOP_MS} ms hops`,
  );
  assert.equal(lastMs, 2 * HOP_MS);
  assert.ok(each < 128 * 1024, `${each} bytes`);
  await Promise.all(nodes.map(({ metadata }) => metadata.stop()));
  await store.close();
});
