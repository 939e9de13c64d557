/**
 * CronDefinitions: what makes, replaces and removes cron entries, whatever node they are of. A change is decided by what is stored
 * under the name, and compares it.
 */
import { setMaxListeners } from 'node:events';
import { Backoff } from '../../core/backoff.js';
import type { Clock } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import type { Random } from '../../core/random.js';
import type { Entry, Key, Operation, Store } from '../../core/store.js';
import { unlessAborted } from '../../core/unless-aborted.js';
import { ALL_CRON, cronKey } from '../keys.js';
import { entriesOf } from '../recovery.js';
import { type CronDefinition, encodeEntry, isSameDefinition, shardOfEntry } from './entry.js';
import { type KnownEntry, readEntry } from './known-entry.js';

export interface DefinitionPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  /** Of each queue. */
  readonly shardCount: number;
  /** All entries are known by now. */
  readonly isListed: Promise<void>;
  /** Aborted when this node ends. */
  readonly ending: AbortSignal;
  /** Where an entry of this name has been seen. */
  keyOf(name: string): Key | undefined;
}

export class CronDefinitions {
  readonly #ports: DefinitionPorts;

  constructor(ports: DefinitionPorts) {
    this.#ports = ports;
    // Every change that waits for the store listens: that is no leak.
    setMaxListeners(0, ports.ending);
  }

  /**
   * Makes an entry be as defined. One that is, is left alone; another definition of the same name replaces it, and counts
   * from now.
   *
   * @param definition - with an expression and a zone that make a {@link Schedule}
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, _STORE_FULL
   */
  async define(definition: CronDefinition): Promise<void> {
    const key = this.#keyOf(definition);
    await this.#change(definition.name, key, (before) => {
      const there = before.find((entry) => entry.key === key);
      if (there !== undefined && before.length === 1) {
        const old = readEntry(there);
        if (old !== undefined && isSameDefinition(old.definition, definition)) return undefined;
      }
      const state = { cursorMs: this.#ports.clock.wallMs(), queued: [], last: undefined };
      const others = before.filter((entry) => entry.key !== key);
      return [
        { type: 'put', key, value: encodeEntry({ definition, ...state }) },
        ...others.map((entry) => ({ type: 'delete', key: entry.key }) as const),
      ];
    });
  }

  /** @returns whether there was one of this name */
  async remove(definition: Pick<CronDefinition, 'name' | 'queue'>): Promise<boolean> {
    let isThere = false;
    await this.#change(definition.name, this.#keyOf(definition), (before) => {
      isThere = before.length > 0;
      if (!isThere) return undefined;
      return before.map(({ key }) => ({ type: 'delete', key }) as const);
    });
    return isThere;
  }

  /** All entries as they are stored now, by name. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async list(): Promise<KnownEntry[]> {
    const found: KnownEntry[] = [];
    for await (const stored of entriesOf(this.#ports.store, ALL_CRON)) {
      const entry = readEntry(stored);
      if (entry !== undefined) found.push(entry);
    }
    return found.sort((a, b) => (a.definition.name < b.definition.name ? -1 : 1));
  }

  /**
   * @param key - where the entry would be
   * @param decide - what is to be written, from all entries of a name; undefined: nothing
   */
  async #change(
    name: string,
    key: Key,
    decide: (before: readonly Entry[]) => Operation[] | undefined,
  ): Promise<void> {
    const { store, clock, random, isListed, ending } = this.#ports;
    await isListed;
    const backoff = new Backoff(clock, random);
    for (;;) {
      const before = await this.#unlessClosed(this.#entriesOf(name, key));
      const success = decide(before);
      if (success === undefined) return;
      const keys = new Set([
        ...before.map(({ key }) => key),
        ...success.flatMap((operation) => ('key' in operation ? [operation.key] : [])),
      ]);
      const compares = [...keys].map((key) => {
        const operand = before.find((entry) => entry.key === key)?.modRevision ?? 0;
        return { target: 'mod', key, operator: '=', operand } as const;
      });
      const outcome = await this.#unlessClosed(store.txn({ compares, success }));
      if (outcome.kind === 'done') return;
      // Somebody was faster, or it may have been applied: what is there now decides.
      await backoff.pause(ending).catch(() => {});
    }
  }

  /**
   * Nobody waits for a store when this node ends; what was on its way is then there or not.
   *
   * @throws ERR_MILLRACE_CLOSED
   */
  async #unlessClosed<T>(work: Promise<T>): Promise<T> {
    const { ending } = this.#ports;
    try {
      return await unlessAborted(work, ending);
    } catch (error) {
      if (!ending.aborted) throw error;
      throw new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
    }
  }

  #keyOf({ name, queue }: Pick<CronDefinition, 'name' | 'queue'>): Key {
    return cronKey({ queue, shard: shardOfEntry(name, this.#ports.shardCount) }, name);
  }

  /** What the store has of a name: where it would be, and where it has been seen. */
  async #entriesOf(name: string, key: Key): Promise<Entry[]> {
    const { store, keyOf } = this.#ports;
    const keys = new Set([key, keyOf(name) ?? key]);
    const found = await Promise.all([...keys].map((one) => store.get(one)));
    return found.filter((entry) => entry !== undefined);
  }
}
