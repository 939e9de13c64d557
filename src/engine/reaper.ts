/**
 * Reaper: clears away what nodes leave that are gone for good. The supervisor's process does it, once a minute.
 *
 *   h/<node>            the head of its commit lane
 *   r/<node>/...        mail that nobody will read
 *   c/<queue>/<shard>   its subscriptions: nobody waits for their answers. Its cancels and results stay: those are meant
 *                       for whoever owns the shard next
 *
 * What it had submitted is not its own any more and stays, also in inboxes of queues that nobody has handlers for.
 *
 * Gone for good: not among the members for a day. First seen absent is what `m/gone` says, by the wall clock, so that it
 * outlives one supervisor; a clock that is minutes off does not matter in a day. So long because of the one harm that is
 * possible: a process that was cut off and comes back after that finds its head gone.
 *
 *   its commit compares mod(h/<node>) == what it wrote last, which no absent key has     refused
 *   it reads the head: absent, so neither its own content nor unmoved                    fenced, it must be started anew
 *
 * That is as it should be: whether the commit that was under way had been applied cannot be known any more. A process that
 * had never written has no head to miss, and begins one.
 *
 *   if    leader, and create(n/<node>) == 0      then delete h/<node>, r/<node>/...; then its subscriptions
 *
 * The head goes first, so what is deleted after it does not come back. A round that fails is made good by the next.
 * Cost: the keys of `h/`, `r/` and `c/` once a minute, without values.
 */
import { joinedCompare, type Members } from '../coordination/members.js';
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import { BaseService } from '../core/service.js';
import { type Compare, type Key, type KeyRange, keyAfter, type Store } from '../core/store.js';
import { ALL_COMMANDS, ALL_HEADS, ALL_MAIL, headKey, mailRange, writerOfCommand } from './keys.js';
import { decodeCommand } from './letters.js';

export interface ReaperPorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly members: Pick<Members, 'list'>;
  /** While this process is the one to do it: what its transactions stand on. */
  mandate(): Compare | undefined;
  /** How long a node is absent before it is gone for good. @defaultValue a day */
  readonly goneAfterMs?: number;
}

const ROUND_MS = 60_000;
const GONE_AFTER_MS = 24 * 3_600_000;
const GONE_KEY = 'm/gone';
const PAGE_KEYS = 1_024;
/** A round is small; whoever is left is for the next one. */
const NODES_PER_ROUND = 100;

export class Reaper extends BaseService {
  readonly #ports: ReaperPorts;
  readonly #goneAfterMs: number;
  #wakeUp: WakeUp | undefined;
  #round: Promise<void> = Promise.resolve();

  constructor(ports: ReaperPorts) {
    super();
    this.#ports = ports;
    this.#goneAfterMs = ports.goneAfterMs ?? GONE_AFTER_MS;
  }

  protected async onStart(): Promise<void> {
    this.#arm();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    await this.#round;
  }

  #arm(): void {
    this.#wakeUp = this.#ports.clock.wakeIn(ROUND_MS, () => {
      this.#round = this.#look().then(() => {
        if (!this.isStopping) this.#arm();
      });
    });
  }

  async #look(): Promise<void> {
    const mandate = this.#ports.mandate();
    if (mandate === undefined) return;
    try {
      const commands = await this.#commandsByWriter();
      const left = new Set([
        ...(await this.#heads()),
        ...(await this.#addressees()),
        ...commands.keys(),
      ]);
      // Listed last: whoever left something and is there is in the list.
      for (const { node } of await this.#ports.members.list()) left.delete(node);
      const nowMs = this.#ports.clock.wallMs();
      const before = await this.#readAbsent();
      const absent = new Map([...left].map((node) => [node, before.get(node) ?? nowMs]));
      const gone = [...absent].filter(([, sinceMs]) => nowMs - sinceMs >= this.#goneAfterMs);
      for (const [node] of gone.slice(0, NODES_PER_ROUND)) {
        if (this.isStopping) return;
        if (await this.#reap(node, commands.get(node) ?? [], mandate)) absent.delete(node);
      }
      if (!isSame(before, absent)) await this.#writeAbsent(absent, mandate);
    } catch (thrown) {
      if (!isMillraceError(thrown)) throw thrown;
      publish('millrace:janitor:failed', () => ({ cause: thrown }));
    }
  }

  // --- Who left something ------------------------------------------------------------------------------------------

  async #heads(): Promise<string[]> {
    const nodes: string[] = [];
    for await (const key of this.#keysOf(ALL_HEADS)) nodes.push(key.slice(ALL_HEADS.from.length));
    return nodes;
  }

  /** Whom mail is for: one key of each. */
  async #addressees(): Promise<string[]> {
    const nodes: string[] = [];
    for (let { from } = ALL_MAIL; ; ) {
      const range = { from, to: ALL_MAIL.to };
      const { entries } = await this.#ports.store.range(range, { limit: 1, keysOnly: true });
      const node = entries[0]?.key.split('/')[1];
      if (node === undefined) return nodes;
      nodes.push(node);
      from = mailRange(node).to;
    }
  }

  async #commandsByWriter(): Promise<Map<string, Key[]>> {
    const commands = new Map<string, Key[]>();
    for await (const key of this.#keysOf(ALL_COMMANDS)) {
      const writer = writerOfCommand(key);
      const keys = commands.get(writer);
      if (keys === undefined) commands.set(writer, [key]);
      else keys.push(key);
    }
    return commands;
  }

  async *#keysOf(range: KeyRange): AsyncGenerator<Key> {
    for (let { from } = range; ; ) {
      const page = { from, to: range.to };
      const options = { limit: PAGE_KEYS, keysOnly: true };
      const { entries, more } = await this.#ports.store.range(page, options);
      for (const { key } of entries) yield key;
      const last = entries.at(-1);
      if (!more || last === undefined) return;
      from = keyAfter(last.key);
    }
  }

  async #readAbsent(): Promise<Map<string, number>> {
    const entry = await this.#ports.store.get(GONE_KEY);
    if (entry === undefined) return new Map();
    try {
      const stored = JSON.parse(Buffer.from(entry.value).toString()) as Record<string, unknown>;
      return new Map(
        Object.entries(stored).flatMap(([node, sinceMs]) =>
          typeof sinceMs === 'number' ? [[node, sinceMs] as const] : [],
        ),
      );
    } catch {
      // Another version's: everybody's day begins anew.
      return new Map();
    }
  }

  async #writeAbsent(absent: ReadonlyMap<string, number>, mandate: Compare): Promise<void> {
    const value = Buffer.from(JSON.stringify(Object.fromEntries(absent)));
    const success =
      absent.size === 0
        ? ({ type: 'delete', key: GONE_KEY } as const)
        : ({ type: 'put', key: GONE_KEY, value } as const);
    await this.#ports.store.txn({ compares: [mandate], success: [success] });
  }

  // --- Clearing away -----------------------------------------------------------------------------------------------

  /** @returns whether nothing is left of it */
  async #reap(node: string, commands: readonly Key[], mandate: Compare): Promise<boolean> {
    const { store } = this.#ports;
    const compares = [mandate, joinedCompare(node, 0)];
    const outcome = await store.txn({
      compares,
      success: [
        { type: 'delete', key: headKey(node) },
        { type: 'deleteRange', range: mailRange(node) },
      ],
    });
    if (outcome.kind !== 'done') return false;
    const subscriptions = await this.#subscriptionsAmong(commands);
    for (let at = 0; at < subscriptions.length; at += store.limits.operationsMax) {
      const success = subscriptions
        .slice(at, at + store.limits.operationsMax)
        .map((key) => ({ type: 'delete', key }) as const);
      const { kind } = await store.txn({ compares, success });
      if (kind !== 'done') return false;
    }
    publish('millrace:node:reaped', () => ({ node, subscriptions: subscriptions.length }));
    return true;
  }

  async #subscriptionsAmong(commands: readonly Key[]): Promise<Key[]> {
    const subscriptions: Key[] = [];
    for (const key of commands) {
      const entry = await this.#ports.store.get(key);
      if (entry === undefined) continue;
      try {
        if (decodeCommand(entry.value).kind === 'subscribe') subscriptions.push(key);
      } catch (cause) {
        if (!isMillraceError(cause)) throw cause;
        // Another version's; the owner of the shard tells of it.
      }
    }
    return subscriptions;
  }
}

function isSame(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([node, sinceMs]) => b.get(node) === sinceMs);
}
