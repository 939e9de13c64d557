/**
 * The store's watch as a bus: one stream over all tenants, in the order of revisions, each told once, with values.
 *
 *   list at r10 -> re-check -> watch from r11 ... -- COMPACTED --> list at r90 -> re-check -> watch from r91 ...
 *
 * A re-check costs a read for each tenant that is cached, and for the entries of those that have changed meanwhile; the
 * key space, which may be far larger than what is cached, is never listed.
 *
 * The store's watch promises to miss nothing. It is not believed blindly: servers have lost events after a compaction
 * (etcd before 3.4.31 and 3.5.13), and the chain of each tenant's writes shows it.
 */
import { Backoff } from '../core/backoff.js';
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { hasCode, isMillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type { Entry, Key, Revision, Store, WatchBatch } from '../core/store.js';
import type { Bus, BusListener, EntryNews, News } from './bus.js';
import { counterKeyOf, isEntryKey, METADATA_RANGE } from './keys.js';
import { readCounter } from './tenant-counter.js';

export class WatchBus implements Bus {
  readonly isOrdered = true;
  readonly recheckMs: number = Number.POSITIVE_INFINITY;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  constructor(clock: Clock, random: Random, store: Store) {
    this.#clock = clock;
    this.#random = random;
    this.#store = store;
  }

  async start(listener: BusListener): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    let revision: Revision | undefined;
    try {
      revision = await this.#catchUp(listener);
    } catch (error) {
      // It comes back by itself; until then every read asks the store.
      if (!isMillraceError(error) || hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
    }
    this.#running = this.#run(listener, revision);
  }

  /** The write is the event. */
  publish(): Promise<void> {
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** @returns the revision that the listener is at */
  async #catchUp(listener: BusListener): Promise<Revision> {
    const { revision } = await this.#store.range(METADATA_RANGE, { limit: 1, keysOnly: true });
    const changes = await listener.recheck(revision);
    if (this.#running) publish('millrace:watch:relisted', () => ({ class: 'cache', changes }));
    listener.onRevision(revision);
    return revision;
  }

  async #run(listener: BusListener, from: Revision | undefined): Promise<void> {
    const { signal } = this.#stopping;
    let revision = from;
    let backoff = new Backoff(this.#clock, this.#random);
    while (!signal.aborted) {
      try {
        if (revision === undefined) {
          revision = await this.#catchUp(listener);
        }
        const startRevision = (revision + 1) as Revision;
        const options = { startRevision, signal, class: 'cache' } as const;
        for await (const batch of this.#store.watch(METADATA_RANGE, options)) {
          for (const news of newsOf(batch)) listener.onNews(news);
          listener.onRevision(batch.revision);
          backoff = new Backoff(this.#clock, this.#random);
        }
        return;
      } catch (error) {
        revision = undefined;
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) return;
        if (hasCode(error, 'ERR_MILLRACE_COMPACTED')) continue;
        if (!isMillraceError(error)) throw error;
        await backoff.pause(signal).catch(() => {});
      }
    }
  }
}

/** One revision, by tenants: as a rule it is one write to one of them. */
function newsOf({ revision, events }: WatchBatch): News[] {
  const byCounter = new Map<Key, { counterEntry?: Entry; changes: EntryNews[] }>();
  for (const event of events) {
    const key = event.type === 'put' ? event.entry.key : event.key;
    const isEntry = isEntryKey(key);
    const counter = isEntry ? counterKeyOf(key) : key;
    let found = byCounter.get(counter);
    if (found === undefined) {
      found = { changes: [] };
      byCounter.set(counter, found);
    }
    if (isEntry) found.changes.push({ key, entry: event.type === 'put' ? event.entry : null });
    else if (event.type === 'put') found.counterEntry = event.entry;
  }
  return Array.from(byCounter, ([counter, { counterEntry, changes }]) => ({
    counter,
    oldRevision: counterEntry && readCounter(counterEntry).previous,
    newRevision: revision,
    ...(counterEntry && { counterEntry }),
    changes,
  }));
}
