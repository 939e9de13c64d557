/** Several processes with metadata on one store, in virtual time. */
import type { TestContext } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import type { Store } from '../../src/core/store.js';
import { memoryStore } from '../../src/store/index.js';
import type { Bus } from '../../src/tenancy/bus.js';
import { Config } from '../../src/tenancy/config.js';
import { Metadata } from '../../src/tenancy/metadata.js';
import { WatchBus } from '../../src/tenancy/watch-bus.js';
import { VirtualClock } from '../../src/testing/index.js';
import { gate } from '../coordination/world.js';
import { FaultyStore } from '../support/faulty-store.js';

export interface Node {
  readonly metadata: Metadata;
  readonly config: Config;
  /** Its own way to the store. */
  readonly faults: FaultyStore;
  /** While set, its watch swallows what it should tell. */
  readonly watching: { isLosing: boolean };
  /** Its watch tells nothing until the returned function is called, or the test is over. */
  holdWatch(): () => void;
}

export interface Nodes {
  readonly clock: VirtualClock;
  /** What the server has. */
  readonly store: Store;
  join(bus?: (faults: FaultyStore) => Bus): Promise<Node>;
}

export async function nodes(
  t: TestContext,
  options: { readonly cacheBytes?: number; readonly history?: number } = {},
): Promise<Nodes> {
  const clock = new VirtualClock();
  const factory = memoryStore(
    options.history === undefined ? {} : { history: { revisionsMax: options.history } },
  );
  const store = await factory.open({ clock });
  const all: Node[] = [];
  const held: (() => void)[] = [];
  t.after(async () => {
    for (const { faults } of all) faults.isCut = false;
    for (const letGo of held) letGo();
    const stopped = Promise.all(all.map(({ metadata }) => metadata.stop()));
    await clock.advance(60_000);
    await stopped;
    await store.close();
  });
  return {
    clock,
    store,
    async join(openBus) {
      const faults = new FaultyStore(await factory.open({ clock }), clock);
      const watching = { isLosing: false };
      const { watch } = faults;
      faults.watch = async function* (range, options) {
        for await (const batch of watch.call(faults, range, options)) {
          if (!watching.isLosing) yield batch;
        }
      };
      const random = seededRandom(all.length + 1);
      const bus = openBus?.(faults) ?? new WatchBus(clock, random.fork('bus'), faults);
      const { cacheBytes = 1024 ** 2 } = options;
      const metadata = new Metadata({ clock, random, store: faults, bus, cacheBytes });
      const holdWatch = (): (() => void) => {
        const { opened, open } = gate();
        faults.watchGate = opened;
        const letGo = (): void => {
          if (faults.watchGate === opened) faults.watchGate = undefined;
          open();
        };
        held.push(letGo);
        return letGo;
      };
      const config = new Config(metadata);
      const node = { metadata, config, faults, watching, holdWatch };
      all.push(node);
      await metadata.start();
      return node;
    },
  };
}
