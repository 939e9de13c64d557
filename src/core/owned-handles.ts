/**
 * What a caller opens and has to close: locks, leaderships, watchers. Each says when it is opened and closed, so that
 * somebody can count; and what went out of use without being closed is told of by its name, since nobody else can say
 * anything about it any more.
 *
 * Two ways out of use without a close: the service behind it ends, which calls `drop()`; or the garbage collector finds what the
 * caller held, late and not for certain, which is a proof all the same.
 */
import { publish } from './channels.js';

export type HandleKind = 'lock' | 'leadership' | 'watcher';

let lastId = 0;

export class OwnedHandle {
  readonly #kind: HandleKind;
  readonly #name: string;
  readonly #id = ++lastId;
  #isClosed = false;

  constructor(kind: HandleKind, name: string) {
    this.#kind = kind;
    this.#name = name;
    publish('millrace:handle:opened', () => ({ kind, id: this.#id, name }));
  }

  /** As it should be. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    forgotten.unregister(this);
    publish('millrace:handle:closed', () => ({ kind: this.#kind, id: this.#id }));
  }

  /** It ends, and nobody had closed it. Does nothing after `close()`. */
  drop(): void {
    if (this.#isClosed) return;
    publish('millrace:handle:dropped', () => ({
      kind: this.#kind,
      id: this.#id,
      name: this.#name,
    }));
    this.close();
  }

  /** Counts as dropped when this is collected before `close()`. Nothing that outlives it may lead to it. */
  guard(owner: object): void {
    forgotten.register(owner, this, this);
  }
}

const forgotten = new FinalizationRegistry<OwnedHandle>((handle) => handle.drop());
