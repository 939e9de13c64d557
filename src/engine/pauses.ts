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
 * claimed before runs on, and so does what is about to run by it: about 10 ms of work.
 *
 * Where a store has one writer, claims stand on nothing, and a change is a commit of the lane: its head keeps out a process
 * that was given up for dead, whose changes the one that replaced it would never hear of.
 *
 * What rests stays where it is in the ready queues of the table: a type is given no room, a tenant is stopped there.
 * Neither costs anything per task, holds up anybody else, or makes a task lose its turn.
 */
import { publish } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { keepFollowing } from '../core/keep-following.js';
import type { Random } from '../core/random.js';
import { type Entry, keyAfter, type Operation, type Revision, type Store } from '../core/store.js';
import type { Commit, ModGuard } from './commit-lane.js';
import { PAUSES_KEY } from './keys.js';

const FORMAT = 1;
/** After an answer that says nothing. */
const RETRY_MS = 200;
const TRIES_MAX = 25;
/** How long a change waits for the lane. */
const LANE_MAX_MS = 5_000;

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
  /** Puts a commit into the lane. */
  insert(commit: Commit): void;
  /** These rest from now on, and nothing else. */
  apply(pauses: readonly Pause[]): void;
  /** There may be something to claim. */
  onChanged(): void;
}

/** What became of a change. */
type Written =
  /** And noted. */
  | { readonly kind: 'done' }
  /** Somebody has changed them since they were read. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'unknown'; readonly cause: MillraceError };

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
   * @throws ERR_MILLRACE_STORE_LOCKED when somebody else has the store that was this process's own
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
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const entry = await store.get(PAUSES_KEY);
      const found = decode(entry);
      const wanted = decide(found);
      // After an unknown outcome this is how it is found to have been applied.
      if (wanted === found) return this.#take(entry);
      const seen = entry?.modRevision ?? (0 as Revision);
      const written = await (isShared ? this.#put(wanted, seen) : this.#commit(wanted, seen));
      if (written.kind === 'done') return;
      if (written.kind === 'refused') continue;
      cause = written.cause;
      // The lane goes on until it knows.
      if (!isShared) break;
      await sleep(clock, RETRY_MS);
    }
    throw new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      'the store does not say whether the pause was changed; look at stats().paused, and ask again',
      { details: { retryAfterMs: 1_000 }, cause },
    );
  }

  async #put(pauses: readonly Pause[], seen: Revision): Promise<Written> {
    const outcome = await this.#ports.store.txn({
      compares: [{ target: 'mod', key: PAUSES_KEY, operator: '=', operand: seen }],
      success: [putOf(pauses)],
    });
    if (outcome.kind === 'done') this.#note(pauses, outcome.revision);
    return outcome;
  }

  /** What has no answer in time is noted when it has been written after all. */
  #commit(pauses: readonly Pause[], seen: Revision): Promise<Written> {
    const { clock, insert } = this.#ports;
    const operation = putOf(pauses);
    return new Promise((resolve, reject) => {
      const tooLong = clock.wakeIn(LANE_MAX_MS, () => unclear(laneIsBusy()));
      const unclear = (cause: MillraceError): void => resolve({ kind: 'unknown', cause });
      insert({
        operations: [operation],
        bytes: operation.value.length,
        guarded: {
          guards: [{ key: PAUSES_KEY, modRevision: seen }],
          onBroken: () => {
            tooLong.cancel();
            resolve({ kind: 'refused' });
          },
        },
        onDone: (revision) => {
          tooLong.cancel();
          this.#note(pauses, revision);
          resolve({ kind: 'done' });
        },
        onUnclear: unclear,
        onFailed: (cause) => {
          tooLong.cancel();
          reject(cause);
        },
      });
    });
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

function putOf(pauses: readonly Pause[]): Extract<Operation, { readonly type: 'put' }> {
  const value = Buffer.from(JSON.stringify({ format: FORMAT, pauses }));
  return { type: 'put', key: PAUSES_KEY, value };
}

function laneIsBusy(): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `the store has given no definite answer to what goes before for ${LANE_MAX_MS} ms`,
  );
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
