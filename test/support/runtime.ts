/**
 * A runtime on virtual time for engine tests: memory store, tasks on the main thread, nothing random.
 */
import { seededRandom } from '../../src/core/random.js';
import type { Store } from '../../src/core/store.js';
import type { TaskModule } from '../../src/core/task.js';
import { requireLayout } from '../../src/engine/layout.js';
import { createRuntimeIn } from '../../src/millrace.js';
import type { Runtime } from '../../src/runtime.js';
import type { RuntimeOptions } from '../../src/runtime-options.js';
import { memoryStore, type StoreFactory } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FaultyStore } from './faulty-store.js';

export interface TestBed {
  readonly clock: VirtualClock;
  readonly store: StoreFactory;
  /** What the newest runtime writes through: records transactions, and loses answers on demand. */
  readonly faults: FaultyStore;
  /** Starts a runtime over the same store; a second call is a restart or a rival. */
  start(options?: Partial<RuntimeOptions>): Promise<Runtime>;
}

export function testBed(tasks: TaskModule): TestBed {
  const clock = new VirtualClock();
  const inner = memoryStore();
  let faults: FaultyStore | undefined;
  const store: StoreFactory = {
    ...inner,
    async open(context): Promise<Store> {
      const opened = await inner.open(context);
      // Done before, so that what tests see of transactions is about tasks.
      await requireLayout(opened, clock);
      faults = new FaultyStore(opened);
      return faults;
    },
  };
  let seed = 1;
  return {
    clock,
    store,
    get faults() {
      if (faults === undefined) throw new Error('no runtime has been started');
      return faults;
    },
    async start(options = {}) {
      const world = { clock, random: seededRandom(seed++) };
      return createRuntimeIn(world, { tasks, store, ...options });
    },
  };
}

/** Lets virtual time pass until the promise settles; fails after `limitMs` of it. */
export async function within<T>(
  clock: VirtualClock,
  limitMs: number,
  promise: Promise<T>,
): Promise<T> {
  let isSettled = false;
  const settled = promise.finally(() => {
    isSettled = true;
  });
  settled.catch(() => {});
  const endMs = clock.monoMs() + limitMs;
  await clock.settle();
  while (!isSettled && clock.monoMs() < endMs) await clock.advance(Math.min(10, limitMs));
  if (!isSettled) throw new Error(`nothing happened within ${limitMs} virtual ms`);
  return settled;
}
