/** A bus of messages under the test's control: what is published comes late, twice, in another order, or not at all. */
import type { Clock } from '../../src/core/clock.js';
import type { Random } from '../../src/core/random.js';
import type { Bus, BusListener, News } from '../../src/tenancy/bus.js';

export interface MessageFaults {
  /** Probabilities, of each message for each listener. */
  readonly lost?: number;
  readonly twice?: number;
  /** Delays are drawn evenly, so that messages overtake one another; ms. @defaultValue none */
  readonly delayMsMax?: number;
}

/** What all buses of a test share: the topic. */
export class MessageHub {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #listeners = new Set<BusListener>();
  faults: MessageFaults;
  published = 0;

  constructor(clock: Clock, random: Random, faults: MessageFaults = {}) {
    this.#clock = clock;
    this.#random = random;
    this.faults = faults;
  }

  join(recheckMs: number = Number.POSITIVE_INFINITY): Bus {
    const listeners = this.#listeners;
    let joined: BusListener | undefined;
    return {
      isOrdered: false,
      recheckMs,
      async start(listener) {
        joined = listener;
        listeners.add(listener);
        await listener.recheck();
      },
      publish: async (news) => this.#publish(news),
      async stop() {
        if (joined) listeners.delete(joined);
      },
    };
  }

  #publish({ counter, oldRevision, newRevision, changes }: News): void {
    if (oldRevision === undefined) return;
    this.published++;
    const { lost = 0, twice = 0, delayMsMax = 0 } = this.faults;
    const keys = changes.map(({ key }) => ({ key, entry: undefined }));
    for (const listener of this.#listeners) {
      const copies = this.#random.float() < lost ? 0 : this.#random.float() < twice ? 2 : 1;
      for (let i = 0; i < copies; i++) {
        this.#clock.wakeIn(this.#random.float() * delayMsMax, () => {
          if (!this.#listeners.has(listener)) return;
          listener.onNews({ counter, oldRevision, newRevision, changes: keys });
        });
      }
    }
  }
}
