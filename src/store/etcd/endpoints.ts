/**
 * The members of the cluster that can be asked, and in which order to try them.
 *
 * The one that worked last stays first for every role: members may lag behind one another, so jumping between them
 * for no reason makes serial work wait. One that failed comes after those that did not, and rests for a while that
 * doubles up to 3 s; to lose a connection that had answered is no failure yet. When all of them rest they are tried in
 * the order in which their rests end.
 *
 * What the user named stays in the list for good. What the member list names is added to it, and goes when the
 * member goes.
 */
import type { Clock } from '../../core/clock.js';
import type { Endpoint } from './endpoint.js';

const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 3_000;
/** Counted no further: the pause is at its longest by then. */
const FAILURES_MAX = 16;

interface Health {
  failures: number;
  /** Not to be tried before this, unless there is nothing else. */
  restsUntilMs: number;
}

export class Endpoints {
  readonly #clock: Clock;
  readonly #named: readonly Endpoint[];
  #found: readonly Endpoint[] = [];
  readonly #health = new Map<string, Health>();
  #preferred: string | undefined;

  /** @param named - at least one; the order is the order of preference until one has worked */
  constructor(clock: Clock, named: readonly Endpoint[]) {
    this.#clock = clock;
    this.#named = named;
  }

  /** All of them, best first. */
  inOrder(): Endpoint[] {
    const nowMs = this.#clock.monoMs();
    // By the end of its rest, when it rests; else by how often it failed in a row; the preferred one first.
    const rank = ({ authority }: Endpoint): number => {
      if (authority === this.#preferred) return -2;
      const health = this.#health.get(authority);
      if (health === undefined) return -1;
      return health.restsUntilMs > nowMs ? health.restsUntilMs + FAILURES_MAX : health.failures;
    };
    return [...this.#named, ...this.#found].sort((a, b) => rank(a) - rank(b));
  }

  /** How long until one of them may be tried again; 0 for now. */
  restMs(): number {
    const nowMs = this.#clock.monoMs();
    const ends = this.inOrder().map(({ authority }) => this.#health.get(authority)?.restsUntilMs);
    return Math.max(0, Math.min(...ends.map((endMs) => endMs ?? 0)) - nowMs);
  }

  worked({ authority }: Endpoint): void {
    this.#health.delete(authority);
    this.#preferred = authority;
  }

  failed({ authority }: Endpoint): void {
    const before = this.#health.get(authority)?.failures ?? 0;
    const failures = Math.min(FAILURES_MAX, before + 1);
    const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** (failures - 1));
    const restsUntilMs = this.#clock.monoMs() + pauseMs;
    this.#health.set(authority, { failures, restsUntilMs });
    if (this.#preferred === authority) this.#preferred = undefined;
  }

  /** It worked until now: others come first, and it need not rest before it is tried again. */
  left({ authority }: Endpoint): void {
    this.#health.set(authority, { failures: 0, restsUntilMs: 0 });
    if (this.#preferred === authority) this.#preferred = undefined;
  }

  /** Takes over what the member list says now. */
  found(endpoints: readonly Endpoint[]): void {
    const known = new Set(this.#named.map(({ authority }) => authority));
    this.#found = endpoints.filter(({ authority }) => !known.has(authority));
    for (const { authority } of this.#found) known.add(authority);
    for (const authority of this.#health.keys()) {
      if (!known.has(authority)) this.#health.delete(authority);
    }
  }
}
