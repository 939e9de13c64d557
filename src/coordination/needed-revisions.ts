/**
 * The oldest revision this process still reads from: its watches, and lists that are read page by page.
 */
import type { Revision, Store } from '../core/store.js';

export class NeededRevisions {
  readonly #store: Store;
  readonly #kept = new Set<{ readonly revision: Revision }>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Keeps a revision readable, as far as compaction is up to millrace. @returns how to let go of it */
  keep(revision: Revision): () => void {
    const entry = { revision };
    this.#kept.add(entry);
    return () => this.#kept.delete(entry);
  }

  /** Undefined when nothing is needed. */
  lowest(): Revision | undefined {
    let lowest = this.#store.neededRevision();
    for (const { revision } of this.#kept) {
      if (lowest === undefined || revision < lowest) lowest = revision;
    }
    return lowest;
  }
}
