/**
 * Elections: one leader at a time among those who campaign for a name; the next in the line follows.
 *
 * The line is that of place.ts, with the candidate's value in its key, as `etcdctl elect` has it. The first of the
 * line leads. A leader does not hand on inside its process and writes its key only once, so here the token is the
 * create revision: of two leaders the later one came later into the line.
 */
import { setMaxListeners } from 'node:events';
import { Backoff, isTransient } from '../core/backoff.js';
import { hasCode, MillraceError } from '../core/errors.js';
import { OwnedHandle } from '../core/owned-handles.js';
import { type Compare, type Entry, prefixRange, type Revision } from '../core/store.js';
import { unlessAborted } from '../core/unless-aborted.js';
import { FirstAbort } from './first-abort.js';
import type { Names } from './names.js';
import { LINGER_MS, type LineContext, Place } from './place.js';

/** What others see of a leader. */
export interface Leader {
  /** The value it campaigned with. */
  readonly value: string;
  /** Rises with every leader of the name. */
  readonly token: bigint;
}

/** Ours, until resigned or lost. */
export interface Leadership extends Leader, AsyncDisposable {
  /** Aborted when one no longer safely leads; stop then. The reason is ERR_MILLRACE_LEASE_LOST or _CLOSED. */
  readonly signal: AbortSignal;
  /** For transactions of the store: refuses them once somebody else leads. The key is the whole key. */
  readonly compare: Compare;
  /** Lets the next one lead. Resolves when the store was told. Idempotent. */
  resign(): Promise<void>;
}

export interface CampaignOptions {
  /** Leaves the line. Once elected, resign instead. */
  readonly signal?: AbortSignal;
}

export class Elections {
  readonly #context: LineContext;
  readonly #names: Names;
  readonly #closing = new AbortController();
  /** Lines this process stands in; it has one key in each. */
  readonly #lines = new Set<string>();
  /** Departures that the store has not confirmed yet. */
  readonly #departures = new Map<string, Promise<void>>();
  readonly #led = new Set<Led>();
  readonly #stopListening: () => void;

  constructor(context: LineContext, names: Names) {
    this.#context = context;
    this.#names = names;
    setMaxListeners(0, this.#closing.signal);
    this.#stopListening = context.session.onChange((change) => {
      if (change.kind !== 'fenced' && change.kind !== 'ended') return;
      for (const led of this.#led) led.lose(change.cause);
    });
  }

  /**
   * Stands for election and resolves when elected. Stays in the line when the session loses its lease and gets
   * another: then at its end.
   *
   * @param name - 1 to 200 printable ASCII characters without '/'; not the name of a lock
   * @param value - what the others see of the leader, such as an address
   * @throws the signal's reason
   * @throws ERR_MILLRACE_INVALID_OPTION also when this process campaigns for the name already
   * @throws ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_CLOSED
   */
  async campaign(
    name: string,
    value: string,
    { signal }: CampaignOptions = {},
  ): Promise<Leadership> {
    const line = this.#names.lineOfElection(name);
    if (this.#lines.has(line)) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        `this process campaigns for '${name}' already; a process stands once in a line, resign first`,
        { details: { name } },
      );
    }
    this.#lines.add(line);
    const giveUp = new FirstAbort(this.#closing.signal, signal);
    const bytes = new TextEncoder().encode(value);
    try {
      for (;;) {
        // A silent store may never confirm it.
        await unlessAborted(Promise.resolve(this.#departures.get(line)), giveUp.signal);
        const place = await this.#stand(line, bytes, giveUp.signal);
        if (place !== undefined) return this.#lead(line, place, value);
      }
    } catch (error) {
      this.#lines.delete(line);
      throw error;
    } finally {
      giveUp.dispose();
    }
  }

  /** Who leads now; undefined when nobody does. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async leader(name: string): Promise<Leader | undefined> {
    const line = this.#names.lineOfElection(name);
    const { entries } = await this.#context.space.store.range(prefixRange(line));
    return shown(first(entries));
  }

  /**
   * Every leader from the one now on (undefined while there is none), and every change of its value. Those who come
   * and go faster than they are read may be left out. Ends quietly with the signal.
   */
  async *observe(
    name: string,
    { signal }: CampaignOptions = {},
  ): AsyncGenerator<Leader | undefined, void, undefined> {
    const line = this.#names.lineOfElection(name);
    const range = prefixRange(line);
    const { store } = this.#context.space;
    const signals = [this.#closing.signal, ...(signal ? [signal] : [])];
    const giveUp = AbortSignal.any(signals);
    const backoff = new Backoff(this.#context.clock, this.#context.random);
    let seen: Revision | undefined | null = null;
    while (!giveUp.aborted) {
      try {
        const { entries, revision } = await store.range(range);
        const standing = new Map(entries.map((entry) => [entry.key, entry]));
        const news = (): boolean => {
          const before = seen;
          seen = first(standing.values())?.modRevision;
          return seen !== before;
        };
        if (news()) yield shown(first(standing.values()));
        const watch = store.watch(range, {
          startRevision: (revision + 1) as Revision,
          signal: giveUp,
          class: 'control',
        });
        for await (const { events } of watch) {
          for (const event of events) {
            if (event.type === 'put') standing.set(event.entry.key, event.entry);
            else standing.delete(event.key);
          }
          if (news()) yield shown(first(standing.values()));
        }
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_COMPACTED')) continue;
        if (!isTransient(error)) throw error;
        await backoff.pause(giveUp).catch(() => {});
      }
    }
  }

  /** Ends all campaigns. Leaders have lost when the session ends. */
  close(cause: MillraceError): void {
    this.#closing.abort(cause);
    for (const led of this.#led) led.lose(cause);
    this.#stopListening();
  }

  /** Goes through the line once. @returns the place at its head; undefined when it was lost on the way */
  async #stand(line: string, value: Uint8Array, giveUp: AbortSignal): Promise<Place | undefined> {
    const tenure = await this.#context.session.live(giveUp);
    const place = new Place(this.#context, tenure, line, value);
    const either = new FirstAbort(giveUp, tenure.signal);
    try {
      await place.join(either.signal);
      await place.wait(either.signal);
      const isFirst = await place.isStanding(either.signal);
      if (isFirst && this.#context.session.isLive(tenure)) return place;
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) {
        await this.#leave(line, place);
        throw error;
      }
    } finally {
      either.dispose();
    }
    await this.#leave(line, place);
    return undefined;
  }

  /** Leaves the line. Resolves after the first try; the next campaign waits for the last. */
  #leave(line: string, place: Place): Promise<void> {
    return new Promise((resolve) => {
      const departure = place.leave(resolve).then(() => {
        if (this.#departures.get(line) === departure) this.#departures.delete(line);
        if (place.mayLinger) this.#sweepLater(line, place);
      });
      this.#departures.set(line, departure);
    });
  }

  #sweepLater(line: string, place: Place): void {
    this.#context.clock.wakeIn(LINGER_MS, () => {
      // Whoever stands there now finds the key as its own, and takes it along when it leaves.
      if (this.#lines.has(line) || this.#departures.has(line)) return;
      const departure = place.sweep().then(() => {
        if (this.#departures.get(line) === departure) this.#departures.delete(line);
      });
      this.#departures.set(line, departure);
    });
  }

  #lead(line: string, place: Place, value: string): Leadership {
    const owned = new OwnedHandle('leadership', line.slice(0, -1));
    const led = new Led(() => {
      owned.close();
      this.#led.delete(led);
      this.#lines.delete(line);
      return this.#leave(line, place);
    });
    this.#led.add(led);
    const resign = (): Promise<void> => led.resign();
    const leadership: Leadership = {
      value,
      token: BigInt(place.createRevision),
      signal: led.signal,
      compare: {
        target: 'create',
        key: place.key,
        operator: '=',
        operand: place.createRevision,
      },
      resign,
      [Symbol.asyncDispose]: resign,
    };
    owned.guard(leadership);
    return leadership;
  }
}

/** One leadership's life. */
class Led {
  readonly #aborter = new AbortController();
  readonly #leave: () => Promise<void>;
  #resigned: Promise<void> | undefined;

  constructor(leave: () => Promise<void>) {
    this.#leave = leave;
  }

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  lose(cause: MillraceError): void {
    this.#aborter.abort(cause);
    void this.resign();
  }

  resign(): Promise<void> {
    this.#resigned ??= this.#leave();
    return this.#resigned;
  }
}

function first(line: Iterable<Entry>): Entry | undefined {
  let found: Entry | undefined;
  for (const entry of line) {
    if (found === undefined || entry.createRevision < found.createRevision) found = entry;
  }
  return found;
}

function shown(entry: Entry | undefined): Leader | undefined {
  if (entry === undefined) return undefined;
  return {
    value: new TextDecoder().decode(entry.value),
    token: BigInt(entry.createRevision),
  };
}
