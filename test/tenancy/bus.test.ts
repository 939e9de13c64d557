import { seededRandom } from '../../src/core/random.js';
import { memoryStore } from '../../src/store/index.js';
import { Metadata } from '../../src/tenancy/metadata.js';
import { WatchBus } from '../../src/tenancy/watch-bus.js';
import { systemClock } from '../../src/timing/system-clock.js';
import { type BusUnderTest, busContract } from './bus-contract.js';
import { MessageHub } from './message-bus.js';

const clock = systemClock;

function overMemory(hub?: MessageHub): BusUnderTest {
  const factory = memoryStore();
  let nodes = 0;
  return {
    async join(t) {
      const store = await factory.open({ clock });
      const random = seededRandom(++nodes);
      const bus = hub?.join(200) ?? new WatchBus(clock, random.fork('bus'), store);
      const metadata = new Metadata({ clock, random, store, bus, cacheBytes: 1024 ** 2 });
      await metadata.start();
      t.after(() => metadata.stop().then(() => store.close()));
      return metadata;
    },
  };
}

busContract("the store's watch", async () => overMemory());
busContract('a bus that loses, doubles and reorders messages', async () =>
  overMemory(new MessageHub(clock, seededRandom(1), { lost: 0.1, twice: 0.3, delayMsMax: 20 })),
);
