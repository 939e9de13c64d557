/**
 * Group commit: what arrives while a commit flies goes into the next one, together.
 *
 *   submit ──> evaluate on head ──> evaluated ──> flight ──> backend ──> durable ──> answered
 *                 (at once)           queue     (one at a time)
 *
 * Requests are evaluated in the order of their arrival, on top of everything that arrived before, durable or not;
 * so each is atomic and has a revision of its own, however many share a commit. Nothing is answered before all it
 * was built on is durable, reads included: a refusal may rest on a write that is still in flight.
 *
 * A commit may fail in two ways. When certainly nothing was written (the store is full), the group is taken back
 * and evaluated again one request per commit, so that only the culprit fails, and a deletion next to it can make
 * room; what was queued behind it is evaluated again too. When it is open what was written, all of the group is
 * *unknown*, and nothing more is written: what the disk holds now shows only when the store is opened again. The
 * history keeps the changes in doubt, so reads go on and see the last state that is certain.
 */
import { invariant, isMillraceError, MillraceError } from '../../core/errors.js';
import type { Revision } from '../../core/store.js';
import type { Backend } from './backend.js';
import type { Keyspace } from './keyspace.js';

/** A group takes no more requests once it has this many bytes, so that one commit stays short. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;

export type Answer<T> =
  | { readonly kind: 'known'; readonly value: T }
  | { readonly kind: 'unknown'; readonly cause: MillraceError };

interface Request {
  /** Appends to the keyspace's head; runs again, on another head, when it was taken back. */
  readonly evaluate: () => unknown;
  readonly resolve: (answer: Answer<never>) => void;
  readonly reject: (error: unknown) => void;
}

interface Evaluated {
  readonly request: Request;
  readonly value: unknown;
  /** The head it was evaluated to: durable means it can be answered. */
  readonly revision: Revision;
}

export class GroupCommit {
  readonly #keyspace: Keyspace;
  readonly #backend: Backend;
  readonly #onDurable: () => void;
  /** Taken back, or behind one that was. */
  #unevaluated: Request[] = [];
  #evaluated: Evaluated[] = [];
  #flight: Evaluated[] = [];
  /** How many requests still go alone. */
  #soloCount = 0;
  #isPumpDue = false;
  #failure: MillraceError | undefined;
  #idlers: (() => void)[] = [];

  /** @param onDurable - called each time the keyspace's durable revision has moved */
  constructor(keyspace: Keyspace, backend: Backend, onDurable: () => void) {
    this.#keyspace = keyspace;
    this.#backend = backend;
    this.#onDurable = onDurable;
  }

  /**
   * Evaluates a request in its turn and answers when all it rests on is durable.
   *
   * @param evaluate - synchronous; what it throws refuses the request, and it must have left no trace then
   * @throws ERR_MILLRACE_STORE_FULL when there is no space for it
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE after a commit whose outcome is unknown
   */
  submit<T>(evaluate: () => T): Promise<Answer<T>> {
    return new Promise<Answer<T>>((resolve, reject) => {
      const request: Request = { evaluate, resolve, reject };
      if (this.#failure) reject(refusal(this.#failure));
      else if (this.#unevaluated.length > 0) this.#unevaluated.push(request);
      else this.#evaluate(request);
      this.#pumpSoon();
    });
  }

  /** Resolves when nothing is waiting or in flight. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#idlers.push(resolve);
      this.#pumpSoon();
    });
  }

  #evaluate(request: Request): void {
    try {
      const value = request.evaluate();
      this.#evaluated.push({ request, value, revision: this.#keyspace.head });
    } catch (error) {
      request.reject(error);
    }
  }

  /** Whatever is submitted in the same turn goes into the same group. */
  #pumpSoon(): void {
    if (this.#isPumpDue || this.#flight.length > 0) return;
    this.#isPumpDue = true;
    queueMicrotask(() => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#flight.length === 0) {
      this.#evaluateWaiting();
      if (this.#evaluated.length === 0) break;
      this.#send();
    }
    if (this.#flight.length > 0 || this.#unevaluated.length > 0) return;
    for (const resolve of this.#idlers.splice(0)) resolve();
  }

  #evaluateWaiting(): void {
    while (this.#unevaluated.length > 0) {
      const isAlone = this.#soloCount > 0;
      if (isAlone && this.#evaluated.length > 0) return;
      this.#evaluate(this.#unevaluated.shift()!);
      if (!isAlone) continue;
      this.#soloCount -= 1;
      if (this.#evaluated.length > 0) return;
    }
  }

  #send(): void {
    const group = this.#takeGroup();
    const revision = group[group.length - 1]!.revision;
    const durable = this.#keyspace.durable;
    if (revision <= durable) {
      for (const { request, value } of group) request.resolve(known(value));
      return;
    }
    this.#flight = group;
    this.#backend.commit(this.#keyspace.writes(durable, revision), revision).then(
      () => this.#onCommitted(revision),
      (error: unknown) => this.#onFailed(error),
    );
  }

  #takeGroup(): Evaluated[] {
    let bytes = 0;
    let count = 0;
    let revision: number = this.#keyspace.durable;
    while (count < this.#evaluated.length && bytes < GROUP_BYTES_MAX) {
      const upTo = this.#evaluated[count]!.revision;
      // A read rests on the revision before it and adds none.
      for (; revision < upTo; revision++) {
        bytes += this.#keyspace.history.record((revision + 1) as Revision).bytes;
      }
      count += 1;
    }
    return this.#evaluated.splice(0, count);
  }

  #onCommitted(revision: Revision): void {
    const group = this.#flight;
    this.#flight = [];
    this.#keyspace.acknowledge(revision);
    for (const { request, value } of group) request.resolve(known(value));
    this.#onDurable();
    this.#pump();
  }

  #onFailed(error: unknown): void {
    const group = this.#flight;
    this.#flight = [];
    if (isMillraceError(error) && error.code === 'ERR_MILLRACE_STORE_FULL') {
      this.#takeBack(group, error);
    } else {
      this.#fail(group, error);
    }
    this.#pump();
  }

  #takeBack(group: readonly Evaluated[], error: MillraceError): void {
    this.#keyspace.rollback(this.#keyspace.durable);
    const requests = group.map(({ request }) => request);
    if (requests.length === 1) requests.shift()!.reject(error);
    const behind = this.#evaluated.map(({ request }) => request);
    this.#evaluated = [];
    this.#soloCount += requests.length;
    this.#unevaluated = [...requests, ...behind, ...this.#unevaluated];
  }

  #fail(group: readonly Evaluated[], error: unknown): void {
    const cause = new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `the commit failed: ${error instanceof Error ? error.message : String(error)}; it may have been applied, open the store again to see`,
      { cause: error },
    );
    this.#failure = cause;
    for (const { request } of group) request.resolve({ kind: 'unknown', cause });
    for (const { request } of this.#evaluated.splice(0)) request.reject(refusal(cause));
    for (const request of this.#unevaluated.splice(0)) request.reject(refusal(cause));
    invariant(this.#flight.length === 0, 'group-commit.fail');
  }
}

function known(value: unknown): Answer<never> {
  return { kind: 'known', value: value as never };
}

function refusal(cause: MillraceError): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    'nothing was written: an earlier commit failed and its outcome is unknown; close the store and open it again',
    { cause },
  );
}
