/**
 * Compactor: keeps the history of a shared server small, by the rule of compaction-rule.ts.
 *
 * Every process looks, one acts: whoever moves the key `m/compaction` from the version all of them read. There is no
 * elected process to die; a round that is lost is made good by the next.
 *
 *   if    mod(m/compaction) == as read
 *   then  put m/compaction { target }          -> ours: compact, then put what it took
 *
 * Not more often than the last compaction took: a server that is busy forgetting is left alone. On a server that is
 * full nothing can be put, and compacting is the way out; then it is called without the key.
 *
 * It also measures how full the store is, for whoever admits work: above 60 % of the quota submits should slow down,
 * above 80 % they should be refused, so that what ends and frees space always finds room.
 */
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { hasCode, isMillraceError } from '../core/errors.js';
import { BaseService } from '../core/service.js';
import { type Entry, keyAfter, type Revision, type Store, type StoreUsage } from '../core/store.js';
import { type CompactionLimits, CompactionRule } from './compaction-rule.js';
import type { Heartbeat } from './heartbeats.js';
import type { NeededRevisions } from './needed-revisions.js';

/** What admission should do about how full the store is. */
export type Pressure = 'none' | 'slow' | 'refuse';

const KEY = 'm/compaction';
/** How often each process looks; {@link Compactor.pressure} is at most so old. */
export const ROUND_MS = 10_000;
/** The part of that after which it looks at a server that grows fast: what was written meanwhile cannot be forgotten. */
const FAST_SHARE = 1 / 4;
const SLOW_SHARE = 0.6;
const REFUSE_SHARE = 0.8;

/** What the key says. */
interface Compaction {
  readonly target: number;
  /** The newest revision when it began. */
  readonly head: number;
  /** When it ended, on the wall clock of whoever did it; 0 while it runs. */
  readonly endedAtMs: number;
  readonly tookMs: number;
}

interface LastCompaction extends Compaction {
  /** Of the key; 0 when there is none. */
  readonly modRevision: number;
}

export class Compactor extends BaseService {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #needed: NeededRevisions;
  readonly #heartbeats: () => Promise<readonly Pick<Heartbeat, 'neededRevision'>[]>;
  readonly #rule: CompactionRule;
  readonly #roundMs: number;
  #pressure: Pressure = 'none';
  #wakeUp: WakeUp | undefined;
  #round: Promise<void> = Promise.resolve();

  /**
   * @param parts.store - one that tells its usage; others need no compaction
   * @param parts.limits - by default 10 000 revisions, as compaction-rule.ts has it
   * @param parts.roundMs - how often it looks; 10 s by default
   */
  constructor(parts: {
    readonly clock: Clock;
    readonly store: Store;
    readonly needed: NeededRevisions;
    readonly heartbeats: () => Promise<readonly Pick<Heartbeat, 'neededRevision'>[]>;
    readonly limits?: CompactionLimits;
    readonly roundMs?: number;
  }) {
    super();
    this.#clock = parts.clock;
    this.#store = parts.store;
    this.#needed = parts.needed;
    this.#heartbeats = parts.heartbeats;
    this.#rule = new CompactionRule(parts.limits);
    this.#roundMs = parts.roundMs ?? ROUND_MS;
  }

  /** As of the last round. */
  get pressure(): Pressure {
    return this.#pressure;
  }

  protected async onStart(): Promise<void> {
    this.#arm();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    await this.#round;
  }

  #arm(): void {
    const delayMs = this.#rule.isFast ? this.#roundMs * FAST_SHARE : this.#roundMs;
    this.#wakeUp = this.#clock.wakeIn(delayMs, () => {
      this.#round = this.#look().then(() => {
        if (!this.isStopping) this.#arm();
      });
    });
  }

  async #look(): Promise<void> {
    try {
      const usage = await this.#store.usage?.();
      if (usage === undefined) return;
      this.#judge(usage);
      const { entries, revision } = await this.#store.range({ from: KEY, to: keyAfter(KEY) });
      this.#rule.measure(revision, usage);
      const last = readLast(entries[0]);
      if (this.#clock.wallMs() < last.endedAtMs + last.tookMs) return;
      const target = this.#rule.target(last, await this.#neededByAll());
      if (target === undefined) return;
      const begun = { target, head: revision, endedAtMs: 0, tookMs: 0 };
      if (await this.#isOurs(last, begun)) await this.#compact(begun);
    } catch (error) {
      if (!isMillraceError(error)) throw error;
      publish('millrace:compaction:failed', () => ({ cause: error }));
    }
  }

  #judge({ bytes, bytesMax }: StoreUsage): void {
    const share = bytes / bytesMax;
    const pressure = share > REFUSE_SHARE ? 'refuse' : share > SLOW_SHARE ? 'slow' : 'none';
    if (pressure === this.#pressure) return;
    this.#pressure = pressure;
    publish('millrace:store:pressure', () => ({ pressure, bytes, bytesMax }));
  }

  /** Heartbeats end with their leases, so only the living count. Our own last one may be older than what we need. */
  async #neededByAll(): Promise<Revision[]> {
    const needed = [this.#needed.lowest()];
    for (const { neededRevision } of await this.#heartbeats()) needed.push(neededRevision);
    return needed.filter((revision) => revision !== undefined);
  }

  /** Moves the key. Without an answer somebody compacts next time. */
  async #isOurs(last: LastCompaction, begun: Compaction): Promise<boolean> {
    try {
      const outcome = await this.#store.txn({
        compares: [{ target: 'mod', key: KEY, operator: '=', operand: last.modRevision }],
        success: [{ type: 'put', key: KEY, value: encode(begun) }],
      });
      return outcome.kind === 'done';
    } catch (error) {
      if (hasCode(error, 'ERR_MILLRACE_STORE_FULL')) return true;
      throw error;
    }
  }

  async #compact(begun: Compaction): Promise<void> {
    const startMs = this.#clock.monoMs();
    await this.#store.compact(begun.target as Revision);
    const tookMs = this.#clock.monoMs() - startMs;
    publish('millrace:compaction:done', () => ({ revision: begun.target, elapsedMs: tookMs }));
    const value = encode({ ...begun, endedAtMs: this.#clock.wallMs(), tookMs });
    await this.#store.txn({ compares: [], success: [{ type: 'put', key: KEY, value }] });
  }
}

function encode(compaction: Compaction): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(compaction));
}

/** What does not parse counts as no compaction: the next one overwrites it. */
function readLast(entry: Entry | undefined): LastCompaction {
  const modRevision = entry?.modRevision ?? 0;
  const none = { target: 0, head: 0, endedAtMs: 0, tookMs: 0, modRevision };
  if (entry === undefined) return none;
  try {
    const parsed = JSON.parse(new TextDecoder().decode(entry.value)) as Compaction;
    const { target, head, endedAtMs, tookMs } = parsed;
    const isFine = [target, head, endedAtMs, tookMs].every((value) => Number.isFinite(value));
    return isFine ? { target, head, endedAtMs, tookMs, modRevision } : none;
  } catch {
    return none;
  }
}
