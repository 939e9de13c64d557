/**
 * Actions: what healing does when a rule or an alert asks for it, and the rails that keep it from doing harm.
 *
 *   request -> allowed? known? -> dry run? -> grace? -> cooling down? -> budget? -> alone in the cluster? -> done
 *                 |                 |          |             |             |               |
 *              refused           dry-run   skipped-*   skipped-cooldown  -budget         -busy     every answer is audited
 *
 *   action               does                                                              a resolved alert
 *   restart-worker       replaces the oldest worker thread, nothing lost                   -
 *   restart-pool         replaces all of them, one after the other                         -
 *   degrade, shed        low priorities are refused, claims and commits fewer; for a time  lifts it
 *   open-breaker         holds a task type back                                            lets it be tried
 *   capture-diagnostics  a report of the process, at most once an hour                     -
 *   exit                 closes, and ends the process with code 75                         -
 *
 * Restarts and exit disturb: they need the runtime to have been up for a while, cool down for longer each time they are
 * repeated on a target (1, 2, 4 ... 30 min), happen at most four times an hour on a node, and on one node of the cluster at
 * a time. A degradation carries a time: the word that the alert has passed may be lost. A breaker is that of a type that runs here:
 * whatever else an alert names is refused, and nothing is kept of it.
 */
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import type { HealGate } from '../core/heal-gate.js';
import type { Levers } from '../core/levers.js';
import type { TypeBreakers } from './breakers.js';
import type { Degradation } from './degradation.js';

export const ACTIONS = [
  'restart-worker',
  'restart-pool',
  'degrade',
  'shed',
  'open-breaker',
  'capture-diagnostics',
  'exit',
] as const;
export type Action = (typeof ACTIONS)[number];

/** Names that alerts may use as well. */
const ALIASES: ReadonlyMap<unknown, Action> = new Map([
  ['restart', 'restart-worker'],
  ['circuit-break', 'open-breaker'],
]);

export type ActionResult =
  | 'done'
  | 'dry-run'
  | 'failed'
  | 'refused'
  | 'skipped-off'
  | 'skipped-grace'
  | 'skipped-cooldown'
  | 'skipped-budget'
  | 'skipped-busy'
  /** Somebody has done it already; not in the audit. */
  | 'skipped-known';

export interface ActionRequest {
  readonly action: Action;
  /** The task type of `open-breaker`; else what asks, so that two causes cool down apart. */
  readonly target: string;
  readonly source: 'rule' | 'webhook';
  /** In words, for the audit. */
  readonly reason: string;
}

/** What the one who asks knows besides. */
export interface ActionFacts {
  /** The thread that `restart-worker` is about. */
  readonly threadId?: number;
  /** Plain data for `capture-diagnostics` to keep. */
  readonly evidence?: object;
}

export interface ActionOptions {
  readonly incarnation: string;
  readonly allowed: ReadonlySet<Action>;
  readonly isDryRun: boolean;
  /** Nothing that disturbs is done before the runtime has been up for so long. */
  readonly graceMs: number;
  /** How long a degradation holds that nobody repeats. */
  readonly degradeMs: number;
}

/** One entry of the audit. */
export interface HealRecord extends ActionRequest {
  /** Epoch ms. */
  readonly atMs: number;
  readonly result: ActionResult;
  /** What came of it, or why not, in words. */
  readonly detail: string;
}

const DISRUPTIVE: ReadonlySet<Action> = new Set(['restart-worker', 'restart-pool', 'exit']);
const COOLDOWN_MIN_MS = 60_000;
const COOLDOWN_MAX_MS = 1_800_000;
const CAPTURE_EVERY_MS = 3_600_000;
const BUDGET_PER_HOUR = 4;
const HOUR_MS = 3_600_000;
const AUDIT_MAX = 200;
const TARGETS_MAX = 1_000;
/** What tells a supervisor to start the process anew. */
const EXIT_CODE = 75;
const LOCK = 'millrace-heal';

interface Cooldown {
  endsAtMs: number;
  spanMs: number;
}

export class Actions {
  readonly #clock: Clock;
  readonly #levers: Levers;
  readonly #gate: HealGate;
  readonly #options: ActionOptions;
  readonly #breakers: TypeBreakers | undefined;
  readonly #degradation: Degradation;
  readonly #startedAtMs: number;
  readonly #cooldowns = new Map<string, Cooldown>();
  readonly #disruptedAtMs: number[] = [];
  readonly #audit: HealRecord[] = [];
  /** The kill switch: nothing is done while it is false. */
  isEnabled = true;

  constructor(
    clock: Clock,
    levers: Levers,
    gate: HealGate,
    parts: ActionOptions & {
      readonly breakers: TypeBreakers | undefined;
      readonly degradation: Degradation;
    },
  ) {
    this.#clock = clock;
    this.#levers = levers;
    this.#gate = gate;
    this.#options = parts;
    this.#breakers = parts.breakers;
    this.#degradation = parts.degradation;
    this.#startedAtMs = clock.monoMs();
  }

  /** The last 200 answers, oldest first. */
  get audit(): readonly HealRecord[] {
    return this.#audit;
  }

  /**
   * Does what is asked for, if it may. Never throws: what comes of it is in the audit.
   *
   * @param isFirst - asked last of all, so that what was held back may be asked for again: whether nobody has done it yet
   */
  async request(
    request: ActionRequest & ActionFacts,
    isFirst: () => Promise<boolean> = async () => true,
  ): Promise<ActionResult> {
    const refusal = this.#refusalOf(request);
    if (refusal !== undefined && refusal[0] !== 'dry-run') return this.#record(request, ...refusal);
    let detail: string | undefined;
    const act = async (): Promise<void> => {
      if (!(await isFirst())) return;
      if (refusal !== undefined) {
        detail = refusal[1];
        return;
      }
      this.#coolDown(request);
      detail = await this.#do(request);
    };
    try {
      const isAlone = DISRUPTIVE.has(request.action)
        ? await this.#gate.exclusive(LOCK, act)
        : await act().then(() => true);
      if (!isAlone) {
        return this.#record(request, 'skipped-busy', 'another node of the cluster is healing');
      }
      if (detail === undefined) return 'skipped-known';
      return this.#record(request, refusal === undefined ? 'done' : 'dry-run', detail);
    } catch (error) {
      return this.#record(request, 'failed', String(error).slice(0, 500));
    }
  }

  /** The cause has passed. */
  resolve({ action, target }: Pick<ActionRequest, 'action' | 'target'>): void {
    if (action === 'degrade' || action === 'shed') this.#degradation.lift(target);
    if (action === 'open-breaker') this.#breakers?.probe(target);
  }

  #refusalOf(request: ActionRequest): [ActionResult, string] | undefined {
    const { action, target } = request;
    if (!this.isEnabled) return ['skipped-off', 'healing is switched off'];
    if (!this.#options.allowed.has(action)) {
      return ['refused', `healing.actions does not allow ${action}`];
    }
    if (action === 'open-breaker' && !this.#levers.runsType(target)) {
      return ['refused', `no task type '${target.slice(0, 200)}' runs here`];
    }
    const nowMs = this.#clock.monoMs();
    const cooldown = this.#cooldowns.get(keyOf(request));
    if (cooldown !== undefined && nowMs < cooldown.endsAtMs) {
      const leftS = Math.ceil((cooldown.endsAtMs - nowMs) / 1_000);
      return ['skipped-cooldown', `the same was done a short time ago; again in ${leftS} s`];
    }
    if (DISRUPTIVE.has(action)) {
      if (nowMs - this.#startedAtMs < this.#options.graceMs) {
        return ['skipped-grace', 'the runtime has just started'];
      }
      const recent = this.#disruptedAtMs.filter((atMs) => nowMs - atMs < HOUR_MS);
      this.#disruptedAtMs.splice(0, this.#disruptedAtMs.length, ...recent);
      if (recent.length >= BUDGET_PER_HOUR) {
        return [
          'skipped-budget',
          `${BUDGET_PER_HOUR} restarts in an hour did not help; a human has to look`,
        ];
      }
    }
    return this.#options.isDryRun ? ['dry-run', 'healing.dryRun is on'] : undefined;
  }

  async #do(request: ActionRequest & ActionFacts): Promise<string> {
    const { action, target, threadId, evidence } = request;
    switch (action) {
      case 'restart-worker':
        await this.#levers.replaceThreads('one', threadId);
        return 'a worker thread was replaced';
      case 'restart-pool':
        await this.#levers.replaceThreads('all');
        return 'all worker threads were replaced';
      case 'degrade':
      case 'shed':
        this.#degradation.degrade(target, this.#options.degradeMs);
        return `degraded for ${this.#options.degradeMs / 1_000} s`;
      case 'open-breaker':
        if (this.#breakers === undefined) throw new Error('healing.rules.breaker is false');
        this.#breakers.open(target);
        return `${target} is held back`;
      case 'capture-diagnostics':
        return await this.#levers.captureDiagnostics(evidence);
      case 'exit':
        await this.#levers.exit(EXIT_CODE);
        return `ended with code ${EXIT_CODE}`;
    }
  }

  /** What is repeated soon after its cooldown waits twice as long the next time. */
  #coolDown(request: ActionRequest): void {
    const { action } = request;
    if (!DISRUPTIVE.has(action) && action !== 'capture-diagnostics') return;
    const nowMs = this.#clock.monoMs();
    if (DISRUPTIVE.has(action)) this.#disruptedAtMs.push(nowMs);
    const key = keyOf(request);
    const before = this.#cooldowns.get(key);
    const isRepeated = before !== undefined && nowMs < before.endsAtMs + 2 * before.spanMs;
    const spanMs =
      action === 'capture-diagnostics'
        ? CAPTURE_EVERY_MS
        : isRepeated
          ? Math.min(before.spanMs * 2, COOLDOWN_MAX_MS)
          : COOLDOWN_MIN_MS;
    if (this.#cooldowns.size >= TARGETS_MAX) this.#cooldowns.clear();
    this.#cooldowns.set(key, { endsAtMs: nowMs + spanMs, spanMs });
  }

  #record(request: ActionRequest, result: ActionResult, detail: string): ActionResult {
    const { action, target, source, reason } = request;
    const record = { action, target, source, reason, atMs: this.#clock.wallMs(), result, detail };
    this.#audit.push(record);
    if (this.#audit.length > AUDIT_MAX) this.#audit.shift();
    publish('millrace:heal:action', () => ({
      incarnation: this.#options.incarnation,
      action,
      target,
      source,
      reason,
      result,
      detail,
    }));
    return result;
  }
}

/** The action of this name or alias; undefined for anything else. */
export function actionNamed(name: unknown): Action | undefined {
  return ALIASES.get(name) ?? ACTIONS.find((action) => action === name);
}

function keyOf({ action, target }: ActionRequest): string {
  return `${action} ${action === 'capture-diagnostics' ? '' : target}`;
}
