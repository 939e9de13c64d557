/**
 * Mail from this node to others, gathered between two commits, and the mail that comes for it.
 *
 * What several commands ask of the owner of their shards goes back in one letter per node and commit.
 */

import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { hasCode, isMillraceError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import { keepFollowing } from '../core/keep-following.js';
import type { Random } from '../core/random.js';
import type { Entry, Store } from '../core/store.js';
import { mailKey, mailRange } from './keys.js';
import { decodeMail, encodeLetter, type Mail } from './letters.js';
import type { Letter, Outbox } from './outbox.js';

/** Keeps a letter far below what a transaction may hold. */
const LETTER_BYTES_MAX = 131_072;

type Lists = { -readonly [K in keyof Required<Mail>]: Required<Mail>[K][number][] };

export class Mailroom {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #node: Incarnation;
  readonly #outbox: Outbox;
  readonly #onMail: (mail: Mail) => void;
  readonly #toSend = new Map<string, Lists>();
  readonly #closing = new AbortController();
  #following: Promise<void> = Promise.resolve();
  #counter = 0;

  constructor(
    ports: { readonly clock: Clock; readonly random: Random; readonly store: Store },
    node: Incarnation,
    outbox: Outbox,
    onMail: (mail: Mail) => void,
  ) {
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#store = ports.store;
    this.#node = node;
    this.#outbox = outbox;
    this.#onMail = onMail;
  }

  start(): void {
    this.#following = this.#follow();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#following;
  }

  get isEmpty(): boolean {
    return this.#toSend.size === 0;
  }

  /** Adds to the next letter for a node. */
  write<Kind extends keyof Mail>(
    node: string,
    kind: Kind,
    item: NonNullable<Mail[Kind]>[number],
  ): void {
    let lists = this.#toSend.get(node);
    if (lists === undefined) {
      lists = { ends: [], gone: [], answers: [], aborts: [], probes: [], redriven: [] };
      this.#toSend.set(node, lists);
    }
    (lists[kind] as unknown[]).push(item);
  }

  /** Posts a letter of its own that goes only with, or after, what it tells of: while the shard is ours, and these are written. */
  post(node: string, mail: Mail, effect: Required<Pick<Letter, 'shard' | 'after'>>): void {
    this.#post(node, mail, effect);
  }

  /** Posts what has gathered. */
  flush(): void {
    for (const [node, { ends, ...rest }] of this.#toSend) {
      // Values may be large; everything else is not.
      let some: Lists['ends'] = [];
      let bytes = 0;
      for (const end of ends) {
        if (some.length > 0 && bytes + end.json.length > LETTER_BYTES_MAX) {
          this.#post(node, { ends: some });
          some = [];
          bytes = 0;
        }
        some.push(end);
        bytes += end.json.length;
      }
      this.#post(node, { ends: some, ...rest });
    }
    this.#toSend.clear();
  }

  #post(node: string, mail: Mail, effect: Pick<Letter, 'shard' | 'after'> = {}): void {
    const key = mailKey(node, this.#node, this.#counter++);
    this.#outbox.post({ key, value: encodeLetter(mail), ...effect });
  }

  async #follow(): Promise<void> {
    const ports = { clock: this.#clock, random: this.#random, store: this.#store };
    const { signal } = this.#closing;
    try {
      for await (const { events } of keepFollowing(ports, mailRange(this.#node), { signal })) {
        for (const event of events) if (event.type === 'put') this.#read(event.entry);
      }
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
    }
  }

  #read({ key, value }: Entry): void {
    try {
      this.#onMail(decodeMail(value));
    } catch (cause) {
      if (!isMillraceError(cause)) throw cause;
      publish('millrace:store:corrupt', () => ({ key, cause }));
    }
    this.#outbox.post({ key, value: undefined });
  }
}
