/**
 * Pauses: which task types, queues and tenants rest, on all nodes, until somebody resumes them.
 *
 *   p/pauses   { format, pauses: [{ kind, name, sinceMs }] }     never deleted, so that its mod revision only grows
 *
 *   pause, resume     if mod(p/pauses) == as read  then put it anew      read again and decided anew when refused or unknown
 *   each claim        stands on that mod revision: a commit of a node that has not heard is refused, and claims nothing
 *                     before it has read them
 *
 * So from the moment that `pause()` resolves no commit claims anything of it any more, also where the watch is late. What was
 * claimed before runs on, and so does what is about to run by it: about 10 ms of work. Where a store has one writer, there
 * is nobody to race with, and claims stand on nothing.
 *
 * What rests stays where it is in the ready queues of the table: a type is given no room, a tenant is stopped there.
 * Neither costs anything per task, holds up anybody else, or makes a task lose its turn.
 */
import { isTransient } from '../core/backoff.js';
import { publish } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { keepFollowing } from '../core/keep-following.js';
import type { Random } from '../core/random.js';
import { type Entry, keyAfter, type Revision, type Store, type TxnOutcome } from '../core/store.js';
import type { ModGuard } from './commit-lane.js';
import { PAUSES_KEY } from './keys.js';

const FORMAT = 1;
/** After an answer that says nothing. */
const RETRY_MS = 200;
const TRIES_MAX = 25;

export const PAUSE_KINDS = ['task', 'queue', 'tenant'] as const;

/** What can rest: the tasks of one type, those of all types of a queue, or those of one tenant. */
export interface PauseTarget {
  readonly kind: (typeof PAUSE_KINDS)[number];
  readonly name: string;
}

export interface Pause extends PauseTarget {
  /** Epoch ms, by the clock of who asked for it. */
  readonly sinceMs: number;
}

export interface PausePorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  /** Of the engine; events say so. */
  readonly incarnation: string;
  /** Whether other nodes write to the store. */
  readonly isShared: boolean;
  /** These rest from now on, and nothing else. */
  apply(pauses: readonly Pause[]): void;
  /** There may be something to claim. */
  onChanged(): void;
}

export class Pauses {
  /** Called with what rests whenever that changes; for an engine that follows this one. */
  onApplied: ((pauses: readonly Pause[]) => void) | undefined;
  readonly #ports: PausePorts;
  readonly #closing = new AbortController();
  #pauses: readonly Pause[] = [];
  #revision = 0 as Revision;
  /** A commit was refused since somebody has changed them: nothing is claimed before they are read. */
  #isStale = false;
  /** Another engine says what rests. */
  #isLed = false;
  /** What a change without an answer may still do is being ended. */
  #isOutwriting = false;
  #background: Promise<unknown> = Promise.resolve();

  constructor(ports: PausePorts) {
    this.#ports = ports;
  }

  /** What rests, as far as this node knows. */
  get all(): readonly Pause[] {
    return this.#pauses;
  }

  /** Whether claims would stand on what is known. */
  get isKnown(): boolean {
    return !this.#isStale;
  }

  /** What each claim stands on; undefined where nobody else writes. */
  get guard(): ModGuard | undefined {
    if (!this.#ports.isShared) return undefined;
    return { key: PAUSES_KEY, modRevision: this.#revision };
  }

  /** @throws ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT */
  async start(): Promise<void> {
    if (this.#isLed) return;
    this.#take(await this.#ports.store.get(PAUSES_KEY));
    if (this.#ports.isShared) this.#background = this.#follow();
  }

  async stop(): Promise<void> {
    this.#closing.abort();
    await this.#background;
  }

  /** Does as another engine is told. */
  adopt(pauses: readonly Pause[]): void {
    this.#isLed = true;
    this.#apply(pauses);
  }

  /**
   * Resolves when it is durable: from then on nothing of it is claimed anywhere. Once more is fine, and changes nothing.
   *
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when that is not known after some seconds
   */
  pause(target: PauseTarget): Promise<void> {
    const sinceMs = this.#ports.clock.wallMs();
    return this.#change((pauses) =>
      has(pauses, target) ? pauses : [...pauses, { ...target, sinceMs }],
    );
  }

  /** Ends a pause; what is not paused stays as it is. As `pause`. */
  resume(target: PauseTarget): Promise<void> {
    return this.#change((pauses) => {
      const left = pauses.filter((pause) => !isOf(pause, target));
      return left.length === pauses.length ? pauses : left;
    });
  }

  /** A commit found that they have changed. */
  onBroken(): void {
    if (this.#isStale) return;
    this.#isStale = true;
    void this.#readAgain();
  }

  async #readAgain(): Promise<void> {
    const { clock, store } = this.#ports;
    while (this.#isStale && !this.#closing.signal.aborted) {
      try {
        const entry = await store.get(PAUSES_KEY);
        if (this.#isStale) this.#takeOrTell(entry);
        this.#isStale = false;
      } catch (error) {
        if (!isMillraceError(error) || hasCode(error, 'ERR_MILLRACE_CLOSED')) return;
        await sleep(clock, RETRY_MS, this.#closing.signal).catch(() => {});
      }
    }
    this.#ports.onChanged();
  }

  async #change(decide: (pauses: readonly Pause[]) => readonly Pause[]): Promise<void> {
    const { clock, store, isShared } = this.#ports;
    let cause: MillraceError | undefined;
    try {
      for (let tries = 0; tries < TRIES_MAX; tries++) {
        const entry = await store.get(PAUSES_KEY);
        const found = decode(entry);
        const wanted = decide(found);
        // After an unknown outcome this is how it is found to have been applied.
        if (wanted === found) return this.#take(entry);
        const outcome = await this.#put(wanted, entry);
        if (outcome.kind === 'done') return this.#note(wanted, outcome.revision);
        if (outcome.kind === 'unknown') {
          cause = outcome.cause;
          await sleep(clock, RETRY_MS);
        }
      }
      throw new MillraceError(
        'ERR_MILLRACE_STORE_UNAVAILABLE',
        'the store does not say whether the pause was changed; look at stats().paused, and ask again',
        { details: { retryAfterMs: 1_000 }, cause },
      );
    } catch (error) {
      // Where others write, the watch tells what becomes of it.
      if (cause !== undefined && !isShared) this.#outwrite();
      throw error;
    }
  }

  #put(pauses: readonly Pause[], over: Entry | undefined): Promise<TxnOutcome> {
    const value = Buffer.from(JSON.stringify({ format: FORMAT, pauses }));
    const operand = over?.modRevision ?? 0;
    return this.#ports.store.txn({
      compares: [{ target: 'mod', key: PAUSES_KEY, operator: '=', operand }],
      success: [{ type: 'put', key: PAUSES_KEY, value }],
    });
  }

  /**
   * Copies of a change that has had no answer may be applied at any time. A write of what is there ends them all, and
   * from then on what is there is known.
   */
  #outwrite(): void {
    if (this.#isOutwriting) return;
    this.#isOutwriting = true;
    this.#background = this.#outwriteAll().finally(() => {
      this.#isOutwriting = false;
    });
  }

  async #outwriteAll(): Promise<void> {
    const { clock, store } = this.#ports;
    while (!this.#closing.signal.aborted) {
      try {
        const entry = await store.get(PAUSES_KEY);
        const pauses = decode(entry);
        const outcome = await this.#put(pauses, entry);
        if (outcome.kind === 'done') return this.#note(pauses, outcome.revision);
      } catch (error) {
        if (!isTransient(error)) return;
      }
      await sleep(clock, RETRY_MS, this.#closing.signal).catch(() => {});
    }
  }

  async #follow(): Promise<void> {
    const range = { from: PAUSES_KEY, to: keyAfter(PAUSES_KEY) };
    const options = { signal: this.#closing.signal, class: 'control' } as const;
    try {
      for await (const { events } of keepFollowing(this.#ports, range, options)) {
        for (const event of events) if (event.type === 'put') this.#takeOrTell(event.entry);
      }
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
    }
  }

  /** What does not decode leaves everything as it was, with a loud event. */
  #takeOrTell(entry: Entry | undefined): void {
    try {
      this.#take(entry);
    } catch (cause) {
      if (!isMillraceError(cause)) throw cause;
      this.#revision = entry?.modRevision ?? this.#revision;
      publish('millrace:store:corrupt', () => ({ key: PAUSES_KEY, cause }));
    }
  }

  #take(entry: Entry | undefined): void {
    if (entry !== undefined) this.#note(decode(entry), entry.modRevision);
  }

  #note(pauses: readonly Pause[], revision: Revision): void {
    if (revision <= this.#revision) return;
    this.#revision = revision;
    this.#isStale = false;
    this.#apply(pauses);
  }

  #apply(pauses: readonly Pause[]): void {
    const before = this.#pauses;
    this.#pauses = pauses;
    this.#ports.apply(pauses);
    this.onApplied?.(pauses);
    for (const one of before) if (!has(pauses, one)) this.#tell(one, false);
    for (const one of pauses) if (!has(before, one)) this.#tell(one, true);
    this.#ports.onChanged();
  }

  #tell({ kind, name }: PauseTarget, isPaused: boolean): void {
    publish('millrace:tasks:paused', () => ({
      incarnation: this.#ports.incarnation,
      kind,
      name,
      isPaused,
      count: this.#pauses.filter((pause) => pause.kind === kind).length,
    }));
  }
}

/** What rests by what the store says. @throws ERR_MILLRACE_STORE_UNAVAILABLE, _CORRUPT, _FORMAT */
export async function storedPauses(store: Store): Promise<readonly Pause[]> {
  return decode(await store.get(PAUSES_KEY));
}

/** What keeps a task from running, if anything does. */
export function pauseOf(
  pauses: readonly Pause[],
  of: Readonly<Record<PauseTarget['kind'], string | undefined>>,
): Pause | undefined {
  return pauses.find(({ kind, name }) => of[kind] === name);
}

function has(pauses: readonly Pause[], target: PauseTarget): boolean {
  return pauses.some((pause) => isOf(pause, target));
}

function isOf(pause: PauseTarget, { kind, name }: PauseTarget): boolean {
  return pause.kind === kind && pause.name === name;
}

/** @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT */
function decode(entry: Entry | undefined): readonly Pause[] {
  if (entry === undefined) return [];
  const given = parsed(entry.value);
  if (typeof given?.format === 'number' && given.format > FORMAT) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_FORMAT',
      `${PAUSES_KEY} has format ${given.format}, and this version reads up to ${FORMAT}; upgrade this node`,
      { details: { format: given.format, formatMax: FORMAT } },
    );
  }
  if (given?.format === FORMAT && Array.isArray(given.pauses) && given.pauses.every(isPause)) {
    return given.pauses;
  }
  throw new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `${PAUSES_KEY} does not say what is paused; look into what else writes there, or delete it`,
    { details: { key: PAUSES_KEY } },
  );
}

function parsed(value: Uint8Array): { format?: unknown; pauses?: unknown } | undefined {
  try {
    const given: unknown = JSON.parse(utf8(value));
    return typeof given === 'object' && given !== null ? given : undefined;
  } catch {
    return undefined;
  }
}

function isPause(given: unknown): given is Pause {
  const { kind, name, sinceMs } = (given ?? {}) as Partial<Record<keyof Pause, unknown>>;
  const isKind = PAUSE_KINDS.some((known) => known === kind);
  return isKind && typeof name === 'string' && typeof sinceMs === 'number';
}
