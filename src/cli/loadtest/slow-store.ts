/** A store that can be made slow: each of its writes then waits before it is sent. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../../core/store.js';
import type { StoreFactory } from '../../store/index.js';

export class Slowness {
  /** What a write takes longer; 0: nothing. */
  byMs = 0;

  /** The same store, under this slowness. */
  of(factory: StoreFactory): StoreFactory {
    return {
      ...factory,
      open: async (context) => this.#slowed(await factory.open(context)),
    };
  }

  #slowed(store: Store): Store {
    const txn: Store['txn'] = async (...args) => {
      if (this.byMs > 0) await sleep(this.byMs);
      return store.txn(...args);
    };
    return new Proxy(store, {
      get(target, name) {
        if (name === 'txn') return txn;
        const value: unknown = Reflect.get(target, name, target);
        // Stores keep their state in private fields, which only they themselves have.
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }
}
