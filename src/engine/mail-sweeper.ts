/**
 * Mail that nobody will read: who ends, or dies, leaves behind what others still had to tell it.
 *
 * A node is gone for good when it has been no member for ten rounds on end. One that comes back after all asks anew
 * for the ends it waits for (`RemoteEnds.askAgain`). Of all nodes the first by name does the work.
 */
import type { Members } from '../coordination/members.js';
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import { BaseService } from '../core/service.js';
import type { Store } from '../core/store.js';
import { ALL_MAIL, addresseeOf, mailRange } from './keys.js';
import { entriesOf } from './recovery.js';

const ROUND_MS = 60_000;
const ROUNDS_ABSENT = 10;

export class MailSweeper extends BaseService {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #members: Members;
  /** For how many rounds nodes with mail have been away. */
  readonly #absent = new Map<string, number>();
  #wakeUp: WakeUp | undefined;
  #round: Promise<void> = Promise.resolve();

  constructor(clock: Clock, store: Store, members: Members) {
    super();
    this.#clock = clock;
    this.#store = store;
    this.#members = members;
  }

  protected async onStart(): Promise<void> {
    this.#arm();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    await this.#round;
  }

  #arm(): void {
    this.#wakeUp = this.#clock.wakeIn(ROUND_MS, () => {
      this.#round = this.#sweep().then(() => {
        if (!this.isStopping) this.#arm();
      });
    });
  }

  async #sweep(): Promise<void> {
    try {
      const members = (await this.#members.list()).map(({ node }) => node);
      if (members[0] !== this.#members.node) return this.#absent.clear();
      const addressees = new Set<string>();
      for await (const { key } of entriesOf(this.#store, ALL_MAIL))
        addressees.add(addresseeOf(key));
      for (const node of members) addressees.delete(node);
      for (const node of this.#absent.keys()) {
        if (!addressees.has(node)) this.#absent.delete(node);
      }
      for (const node of addressees) await this.#noteAbsent(node);
    } catch (thrown) {
      // The store is in trouble or closing; the next round starts over.
      if (!isMillraceError(thrown)) throw thrown;
      publish('millrace:janitor:failed', () => ({ cause: thrown }));
    }
  }

  async #noteAbsent(node: string): Promise<void> {
    const rounds = (this.#absent.get(node) ?? 0) + 1;
    this.#absent.set(node, rounds);
    if (rounds < ROUNDS_ABSENT) return;
    await this.#store.txn({
      compares: [],
      success: [{ type: 'deleteRange', range: mailRange(node) }],
    });
    // Whether that was applied the next round sees.
    this.#absent.delete(node);
  }
}
