/**
 * The budgets of a node: tells each who is there and what its key says, as both change (budget.ts). All of them end with the
 * node's lease, and are asked for anew under the next one.
 */
import type { Members } from '../../coordination/members.js';
import type { Session } from '../../coordination/session.js';
import { type Clock, sleep } from '../../core/clock.js';
import { keepFollowing, unlessClosed } from '../../core/keep-following.js';
import type { Random } from '../../core/random.js';
import { BaseService } from '../../core/service.js';
import type { Key, Store } from '../../core/store.js';
import { ALL_RATES } from '../keys.js';
import { Budget } from './budget.js';

export interface BudgetsPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly session: Session;
  readonly members: Members;
}

/** After a new lease, whether this node is a member again is looked at so often. */
const JOIN_LOOK_MS = 100;

export class Budgets extends BaseService {
  readonly #ports: BudgetsPorts;
  readonly #budgets = new Map<Key, Budget>();
  readonly #closing = new AbortController();
  #stopListening: () => void = () => {};
  #following: Promise<unknown> = Promise.resolve();

  constructor(ports: BudgetsPorts) {
    super();
    this.#ports = ports;
  }

  /**
   * One more. REQUIRES: not started.
   *
   * @param want - to begin with, as {@link Budget.want}
   * @param onShare - see `BudgetPorts`
   */
  add(key: Key, want: number, onShare: (share: number, isFirst: boolean) => void): Budget {
    const { clock, random, store, members } = this.#ports;
    const { signal } = this.#closing;
    const ports = { clock, random: random.fork(key), store, members, signal, onShare };
    const budget = new Budget(key, want, ports);
    this.#budgets.set(key, budget);
    return budget;
  }

  protected async onStart(): Promise<void> {
    this.#stopListening = this.#ports.session.onChange(({ kind }) => {
      if (kind === 'ended') for (const budget of this.#budgets.values()) budget.loseShare();
      if (kind === 'granted') void this.#rejoin();
    });
    this.#following = Promise.all([
      this.#followMembers().catch(unlessClosed),
      this.#followShares().catch(unlessClosed),
    ]);
  }

  /** What this node has of each is free for others once its member record is gone. */
  protected async onStop(): Promise<void> {
    this.#closing.abort();
    this.#stopListening();
    await this.#following;
  }

  async #followMembers(): Promise<void> {
    for await (const there of this.#ports.members.watch({ signal: this.#closing.signal })) {
      for (const budget of this.#budgets.values()) budget.setMembers(there);
    }
  }

  async #followShares(): Promise<void> {
    const options = { signal: this.#closing.signal, class: 'control' } as const;
    for await (const { kind, events } of keepFollowing(this.#ports, ALL_RATES, options)) {
      const told = new Set<Key>();
      for (const event of events) {
        const entry = event.type === 'put' ? event.entry : undefined;
        const key = event.type === 'put' ? event.entry.key : event.key;
        told.add(key);
        this.#budgets.get(key)?.hear(entry);
      }
      if (kind !== 'list') continue;
      for (const [key, budget] of this.#budgets) if (!told.has(key)) budget.hear(undefined);
    }
  }

  async #rejoin(): Promise<void> {
    const { clock, members } = this.#ports;
    const { signal } = this.#closing;
    while (members.self === undefined && !signal.aborted) {
      await sleep(clock, JOIN_LOOK_MS, signal).catch(() => {});
    }
    for (const budget of this.#budgets.values()) budget.step();
  }
}
