/**
 * The leak watchdog: finds what is opened and never closed, names who does it, and has the thread replaced.
 *
 *   every 5 s   counts of everything that is open --> growth (growth.ts) --> suspected
 *   suspected   the threads follow each handle for a while, more stacks are taken
 *   then        nothing new begins for two seconds at most: what load explains is closed by then
 *                 `-> back at the floor: cleared      `-> still there: confirmed
 *   confirmed   evidence is written, and the worker that has most of it is replaced, named by the task type that left it
 *
 * Two paths have to agree, counts over time and who opened what, since each alone accuses the innocent: growth may be a pool that
 * warms up, and a task that leaves a handle open may do so once.
 *
 * Nothing is decided in the first window (ten minutes). One kind at a time is looked into, and each again after an hour at
 * the earliest.
 */
import { type LeakSite, publish } from '../core/channels.js';
import { type Clock, sleep, type WakeUp } from '../core/clock.js';
import type { LeftHandles } from '../core/handler-hooks.js';
import type { Levers } from '../core/levers.js';
import { BaseService } from '../core/service.js';
import { Subscriptions } from '../core/subscriptions.js';
import type { Actions } from './actions.js';
import { Growth, WINDOW } from './growth.js';
import { OpenHandles } from './open-handles.js';

export interface LeakOptions {
  readonly incarnation: string;
  /** Between two samples; a window is 120 of them. */
  readonly everyMs: number;
  /** What the process has open by its own account. */
  readonly processCounts: () => ReadonlyMap<string, number>;
}

/** Threads follow handles for so many samples, and at least for so long. */
const FOLLOW_SAMPLES = 6;
const FOLLOW_MS_MIN = 1_000;
const DRAIN_MS = 2_000;
const DRAIN_STEP_MS = 100;
const LOOKED_AT_AGAIN_MS = 3_600_000;
const KINDS_MAX = 64;
const SITES_MAX = 5;
const WORKER = 'worker:';

export class LeakWatchdog extends BaseService {
  readonly #clock: Clock;
  readonly #levers: Levers;
  readonly #actions: Actions;
  readonly #options: LeakOptions;
  readonly #events: Subscriptions;
  readonly #handles = new OpenHandles();
  readonly #growths = new Map<string, Growth>();
  /** When a kind was looked into last. */
  readonly #lookedAtMs = new Map<string, number>();
  /** Sums of left handles at which they were told of. */
  readonly #toldLeft = new Map<string, number>();
  #suspect: string | undefined;
  #wakeUp: WakeUp | undefined;

  constructor(clock: Clock, levers: Levers, actions: Actions, options: LeakOptions) {
    super();
    this.#clock = clock;
    this.#levers = levers;
    this.#actions = actions;
    this.#options = options;
    this.#events = new Subscriptions(options.incarnation);
  }

  protected async onStart(): Promise<void> {
    this.#handles.follow(this.#events, (left, sum) => this.#onLeft(left, sum));
    this.#arm();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    this.#events.close();
  }

  #arm(): void {
    this.#wakeUp = this.#clock.wakeIn(this.#options.everyMs, () => {
      this.#sample();
      if (!this.isStopping) this.#arm();
    });
  }

  #counts(): Map<string, number> {
    return new Map([...this.#handles.counts(), ...this.#options.processCounts()]);
  }

  #sample(): void {
    const counts = this.#counts();
    const load = this.#levers.running;
    for (const kind of counts.keys()) {
      if (!this.#growths.has(kind) && this.#growths.size < KINDS_MAX) {
        this.#growths.set(kind, new Growth());
      }
    }
    publish('millrace:leak:sampled', () => ({
      incarnation: this.#options.incarnation,
      counts,
      suspect: this.#suspect,
    }));
    for (const [kind, growth] of this.#growths) {
      growth.add(counts.get(kind) ?? 0, load);
      if (growth.isSuspected && this.#suspect === undefined && this.#mayLookInto(kind)) {
        this.#suspect = kind;
        void this.#lookInto(kind, growth).finally(() => {
          this.#suspect = undefined;
        });
      }
    }
  }

  #mayLookInto(kind: string): boolean {
    const lookedAtMs = this.#lookedAtMs.get(kind) ?? Number.NEGATIVE_INFINITY;
    return this.#clock.monoMs() - lookedAtMs >= LOOKED_AT_AGAIN_MS;
  }

  /** From suspicion to a verdict. */
  async #lookInto(kind: string, growth: Growth): Promise<void> {
    const { incarnation, everyMs } = this.#options;
    const { floor, slope } = growth.fit!;
    this.#lookedAtMs.set(kind, this.#clock.monoMs());
    const growthPerSecond = slope / (everyMs / 1_000);
    publish('millrace:leak:suspected', () => ({
      incarnation,
      kind,
      count: this.#counts().get(kind) ?? 0,
      growthPerSecond,
    }));
    const mark = this.#handles.markLeft();
    const followMs = Math.max(FOLLOW_MS_MIN, FOLLOW_SAMPLES * everyMs);
    this.#handles.isLookingClosely = true;
    this.#levers.inspectThreads(followMs);
    await sleep(this.#clock, followMs);
    this.#handles.isLookingClosely = false;
    const count = await this.#countWhenIdle(kind);
    if (this.isStopping) return;
    const isConfirmed = count >= floor + (slope * WINDOW) / 2;
    growth.reset();
    // Of the same kind if there is any: descriptors, for one, are not what threads count.
    const left = this.#handles.leftSince(mark);
    const own = left.filter((one) => WORKER + one.kind === kind);
    const culprit = own[0] ?? (kind.startsWith('main:') ? undefined : left[0]);
    const sites = [
      ...(culprit?.site ? [{ stack: culprit.site, count: culprit.count }] : []),
      ...this.#handles.sites(kind, SITES_MAX),
    ];
    const verdict = { kind, type: culprit?.type, count, growthPerSecond, sites };
    if (isConfirmed) await this.#confirm(verdict);
    else publish('millrace:leak:cleared', () => ({ incarnation, kind, count }));
  }

  /** What is open once nothing runs, or after {@link DRAIN_MS} of nothing new. */
  async #countWhenIdle(kind: string): Promise<number> {
    const endsAtMs = this.#clock.monoMs() + DRAIN_MS;
    this.#levers.holdStarts(true);
    try {
      let least = Number.POSITIVE_INFINITY;
      let idleSteps = 0;
      // Handles that tasks close at their end need a moment; what threads tell needs one more.
      while (this.#clock.monoMs() < endsAtMs && idleSteps < 5) {
        this.#levers.inspectThreads(0);
        await sleep(this.#clock, DRAIN_STEP_MS);
        least = Math.min(least, this.#counts().get(kind) ?? 0);
        if (this.#levers.running === 0) idleSteps++;
      }
      return least;
    } finally {
      this.#levers.holdStarts(false);
    }
  }

  async #confirm(verdict: {
    readonly kind: string;
    readonly type: string | undefined;
    readonly count: number;
    readonly growthPerSecond: number;
    readonly sites: readonly LeakSite[];
  }): Promise<void> {
    const { kind, type, count } = verdict;
    const who = type === undefined ? '' : `, left by task '${type}'`;
    const reason = `leak of ${kind}: ${count} open${who}`;
    const target = type ?? kind;
    const counts = Object.fromEntries(this.#counts());
    publish('millrace:leak:confirmed', () => ({
      incarnation: this.#options.incarnation,
      ...verdict,
    }));
    await this.#actions.request({
      action: 'capture-diagnostics',
      target,
      source: 'rule',
      reason,
      evidence: { ...verdict, counts },
    });
    const isWorkers = kind.startsWith(WORKER) || type !== undefined;
    if (!isWorkers) return;
    const threadId = this.#handles.threadWithMost(kind.slice(WORKER.length));
    await this.#actions.request({
      action: 'restart-worker',
      target,
      source: 'rule',
      reason,
      ...(threadId !== undefined && { threadId }),
    });
  }

  /** Tells of the first, and each time there are twice as many. */
  #onLeft({ type, kind, site }: LeftHandles, sum: number): void {
    const key = `${type}\n${kind}`;
    if (sum < 2 * (this.#toldLeft.get(key) ?? 0)) return;
    this.#toldLeft.set(key, sum);
    const { incarnation } = this.#options;
    publish('millrace:leak:left', () => ({ incarnation, type, kind, count: sum, site }));
  }
}
