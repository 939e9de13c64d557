/**
 * Transactions of many callers that go together: what is asked for while enough are on their way leaves as one, each caller's
 * as a nested transaction with compares of its own.
 *
 *   a  b  c  d  -->  four in flight, each alone           e f g h i ... gather
 *   a answered  -->  txn { [e], [f], [g], [h], [i] ... }  one write of the log for all of them
 *
 * A server writes its log once per transaction, or for a few that happen to arrive together; fifty callers who take fifty
 * locks through one process need not wait for fifty of them. Who is alone loses nothing: it leaves at once, as it is.
 *
 * What a group came to: each member's own compares decide about it. An answer that was lost is lost for all. A group that was
 * refused for certain, since one member's lease has ended, say, was not applied at all: its members go again by themselves.
 */
import { invariant } from '../core/errors.js';
import type {
  Key,
  MutationOptions,
  Operation,
  OperationResult,
  Store,
  Txn,
  TxnOutcome,
} from '../core/store.js';

/** More leave alone; beyond, they gather. */
const IN_FLIGHT_MAX = 4;
/** A member is one operation, and the largest counts with what is in it. */
const MEMBERS_MAX = 96;
const INNER_OPERATIONS_MAX = 16;

interface Asked {
  readonly txn: Txn;
  readonly keys: readonly Key[];
  readonly resolve: (outcome: TxnOutcome) => void;
  readonly reject: (cause: unknown) => void;
}

export class GroupedTxns implements Pick<Store, 'txn'> {
  readonly #store: Pick<Store, 'txn'>;
  #waiting: Asked[] = [];
  #inFlight = 0;

  constructor(store: Pick<Store, 'txn'>) {
    this.#store = store;
  }

  /** As `Store.txn`. One with options, or that is large or nested itself, goes alone. */
  txn(txn: Txn, options?: MutationOptions): Promise<TxnOutcome> {
    const keys = options === undefined ? keysOf(txn) : undefined;
    if (keys === undefined) return this.#store.txn(txn, options);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ txn, keys, resolve, reject });
      this.#send();
    });
  }

  #send(): void {
    while (this.#waiting.length > 0 && this.#inFlight < IN_FLIGHT_MAX) {
      const group = this.#takeGroup();
      this.#inFlight++;
      const sent = group.length === 1 ? this.#sendAlone(group[0]!) : this.#sendGroup(group);
      void sent.then(() => {
        this.#inFlight--;
        this.#send();
      });
    }
  }

  /** In the order of asking, as many as may stand in one transaction: no key is written twice there. */
  #takeGroup(): Asked[] {
    const written = new Set<Key>();
    const group: Asked[] = [];
    const left: Asked[] = [];
    for (const asked of this.#waiting) {
      // Whoever is left behind is not overtaken by a later one of the same key.
      const isFree = group.length < MEMBERS_MAX && !asked.keys.some((key) => written.has(key));
      for (const key of asked.keys) written.add(key);
      (isFree ? group : left).push(asked);
    }
    this.#waiting = left;
    return group;
  }

  async #sendAlone({ txn, resolve, reject }: Asked): Promise<void> {
    await this.#store.txn(txn).then(resolve, reject);
  }

  async #sendGroup(group: readonly Asked[]): Promise<void> {
    const success: Operation[] = group.map(({ txn }) => ({ type: 'txn', txn }));
    let outcome: TxnOutcome;
    try {
      outcome = await this.#store.txn({ compares: [], success });
    } catch {
      // None was applied, and which of them is to blame only each can tell.
      await Promise.all(group.map((asked) => this.#sendAlone(asked)));
      return;
    }
    for (const [i, { resolve }] of group.entries()) resolve(outcomeOf(outcome, i));
  }
}

function outcomeOf(outcome: TxnOutcome, member: number): TxnOutcome {
  if (outcome.kind === 'unknown') return outcome;
  const result: OperationResult | undefined = outcome.results[member];
  invariant(result?.type === 'txn', 'grouped-txns.result');
  const { revision } = outcome;
  return { kind: result.succeeded ? 'done' : 'refused', revision, results: result.results };
}

/** What it writes; undefined when it is not to be nested. */
function keysOf({ success, failure = [] }: Txn): readonly Key[] | undefined {
  const keys: Key[] = [];
  for (const branch of [success, failure]) {
    if (branch.length > INNER_OPERATIONS_MAX) return undefined;
    for (const operation of branch) {
      if (operation.type === 'txn' || operation.type === 'deleteRange') return undefined;
      if (operation.type === 'put' || operation.type === 'delete') keys.push(operation.key);
    }
  }
  return keys;
}
