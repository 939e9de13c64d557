/**
 * Whole revisions out of the answers of one watch.
 *
 * etcd cuts an answer that is too large for one message into fragments, between any two events: a revision of many
 * keys comes in pieces, and a catch-up of a thousand revisions in messages that begin and end inside revisions.
 *
 *   answer   | r5 r5 r6 | r6 r7 | r7 r8 |          ('|': message; all but the last say `fragment`)
 *   out         r5         r6     r7, r8           r6 is whole when something newer comes, r8 when the answer ends
 *
 * So at most one revision is held back, however long the answer is. Without fragments an answer only holds whole
 * revisions; that is etcd's promise ("atomic").
 */
import type { Revision, WatchBatch, WatchEvent } from '../../core/store.js';

export class RevisionJoiner {
  #held: WatchEvent[] = [];
  #revision = 0 as Revision;

  /** Whether a revision waits for its rest. */
  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  /** Takes the events of one message. @returns the revisions that are now whole, in order */
  add(events: readonly WatchEvent[], isFragment: boolean): WatchBatch[] {
    const whole: WatchBatch[] = [];
    for (const event of events) {
      const revision = revisionOf(event);
      if (revision !== this.#revision && this.#held.length > 0) whole.push(this.#take());
      this.#revision = revision;
      this.#held.push(event);
    }
    if (!isFragment && this.#held.length > 0) whole.push(this.#take());
    return whole;
  }

  #take(): WatchBatch {
    const events = this.#held;
    this.#held = [];
    // etcd tells the writes of a transaction in the order of its operations.
    if (!isSorted(events)) events.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
    return { revision: this.#revision, events };
  }
}

function isSorted(events: readonly WatchEvent[]): boolean {
  for (let index = 1; index < events.length; index++) {
    if (keyOf(events[index - 1]!) > keyOf(events[index]!)) return false;
  }
  return true;
}

function keyOf(event: WatchEvent): string {
  return event.type === 'put' ? event.entry.key : event.key;
}

function revisionOf(event: WatchEvent): Revision {
  return event.type === 'put' ? event.entry.modRevision : event.modRevision;
}
