/**
 * How late watches are: a key that this process writes now and then, and sees come back.
 *
 *   put n ---------> store            commitMs: sent -> acknowledged
 *     '---- watch <---'               delayMs:  sent -> seen, published as `millrace:watch:delay`
 *
 * A watch that is stuck tells nothing by itself; so a canary that is not back when the next one is due is published
 * with the delay it has reached, and goes on to be waited for. One whose write has an unknown outcome is published so, too, and is not
 * waited for: it may never come.
 *
 * Cost: one small write and one event per period and class.
 */
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { hasCode } from '../core/errors.js';
import { BaseService } from '../core/service.js';
import { type Key, keyAfter, type LeaseId, type Store, type WatchClass } from '../core/store.js';

const EVERY_MS = 10_000;

export interface WatchCanaryOptions {
  /** This process's own; removed by stop(), or with the lease. */
  readonly key: Key;
  /** Whose delay is measured. @defaultValue 'control' */
  readonly class?: WatchClass;
  /** @defaultValue 10 s */
  readonly everyMs?: number | undefined;
  /** The lease the key is to end with, at the time of each write; while there is none, nothing is written. */
  readonly leaseId?: () => LeaseId | undefined;
}

interface Flight {
  readonly number: number;
  readonly sentAtMs: number;
  commitMs: number | undefined;
}

export class WatchCanary extends BaseService {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #options: WatchCanaryOptions;
  readonly #stopping = new AbortController();
  #watching: Promise<void> | undefined;
  #wakeUp: WakeUp | undefined;
  #flight: Flight | undefined;
  #flights = 0;
  /** The watch has ended for good: no canary would be seen to come back. */
  #isBlind = false;

  constructor(clock: Clock, store: Store, options: WatchCanaryOptions) {
    super();
    this.#clock = clock;
    this.#store = store;
    this.#options = options;
  }

  protected onStart(): Promise<void> {
    this.#watching = this.#watch();
    this.#release();
    return Promise.resolve();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    this.#stopping.abort();
    await this.#watching;
    const { key, leaseId } = this.#options;
    if (leaseId !== undefined) return;
    await this.#store.txn({ compares: [], success: [{ type: 'delete', key }] }).catch(() => {});
  }

  /** Lets the next canary fly, unless the last one is still out. */
  #release(): void {
    if (this.#isBlind) return;
    this.#wakeUp = this.#clock.wakeIn(this.#options.everyMs ?? EVERY_MS, () => this.#release());
    if (this.#flight) return this.#report(this.#flight);
    const leaseId = this.#options.leaseId?.();
    if (leaseId === undefined && this.#options.leaseId !== undefined) return;
    const flight: Flight = {
      number: ++this.#flights,
      sentAtMs: this.#clock.monoMs(),
      commitMs: undefined,
    };
    this.#flight = flight;
    const value = new TextEncoder().encode(String(flight.number));
    const put = { type: 'put', key: this.#options.key, value } as const;
    const success = [leaseId === undefined ? put : { ...put, leaseId }];
    this.#store.txn({ compares: [], success }).then(
      ({ kind }) => {
        if (kind === 'done') flight.commitMs = this.#clock.monoMs() - flight.sentAtMs;
        else if (this.#flight === flight) this.#land(flight);
      },
      () => {
        // It was not written, so it will not come.
        if (this.#flight === flight) this.#flight = undefined;
      },
    );
  }

  async #watch(): Promise<void> {
    const { key, class: watchClass = 'control' } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const range = { from: key, to: keyAfter(key) };
        for await (const { events } of this.#store.watch(range, { signal, class: watchClass })) {
          for (const event of events) if (event.type === 'put') this.#seen(event.entry.value);
        }
        return;
      } catch (error) {
        // Anything else is for those who watch more than a canary; this one measures nothing any more.
        this.#flight = undefined;
        this.#isBlind = !hasCode(error, 'ERR_MILLRACE_COMPACTED');
        if (this.#isBlind) return;
      }
    }
  }

  #seen(value: Uint8Array): void {
    const flight = this.#flight;
    if (flight === undefined || new TextDecoder().decode(value) !== String(flight.number)) return;
    this.#land(flight);
  }

  #land(flight: Flight): void {
    this.#flight = undefined;
    this.#report(flight);
  }

  #report({ sentAtMs, commitMs }: Flight): void {
    publish('millrace:watch:delay', () => ({
      class: this.#options.class ?? 'control',
      delayMs: this.#clock.monoMs() - sentAtMs,
      commitMs,
    }));
  }
}
