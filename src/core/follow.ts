/**
 * A range as it is and as it changes, for ever: list, watch, and list again when history was compacted.
 *
 *   list at r10 ──> watch from r11 ──> ... ── COMPACTED ──> list at r90, tell the difference ──> watch from r91 ...
 *
 * A watch that lost its place cannot say what it missed. A new list shows what is there, but not what has gone; so the
 * keys that were told are remembered with their revisions, and the difference is told as events: a put for every entry
 * that is new or newer, a delete for every key that is not there any more. What came and went in between is never told,
 * and several changes of a key are told as its last one. For who keeps a picture of the range that is all it takes.
 *
 * Memory: a map entry per key of the range. Readers that only react to changes use `Store.watch`.
 * Source: the list-and-watch of Kubernetes' reflectors.
 */
import { publish } from './channels.js';
import { hasCode } from './errors.js';
import type {
  Entry,
  Key,
  KeyRange,
  Revision,
  Store,
  WatchBatch,
  WatchClass,
  WatchEvent,
} from './store.js';
import { unlessAborted } from './unless-aborted.js';

export interface FollowOptions {
  /** Ends the following quietly, also while the store has not answered. */
  readonly signal?: AbortSignal;
  /** @defaultValue 'data' */
  readonly class?: WatchClass;
}

export interface FollowBatch {
  /**
   * `list`: the range as it was found, always the first, perhaps empty. `change`: one revision, as it happened.
   * `relist`: the difference to what was told before, perhaps empty; its deletes carry the revision of the list.
   */
  readonly kind: 'list' | 'change' | 'relist';
  /** Everything up to here has been told. */
  readonly revision: Revision;
  /** In order of keys. */
  readonly events: readonly WatchEvent[];
}

/**
 * Tells the range and all its changes.
 *
 * @throws what `range` and `watch` throw, but ERR_MILLRACE_COMPACTED: ERR_MILLRACE_CLOSED with the store, and
 *   ERR_MILLRACE_STORE_UNAVAILABLE
 */
export async function* follow(
  store: Store,
  range: KeyRange,
  options: FollowOptions = {},
): AsyncGenerator<FollowBatch, undefined> {
  const { signal, class: watchClass = 'data' } = options;
  const known = new Map<Key, Revision>();
  for (let kind: 'list' | 'relist' = 'list'; !signal?.aborted; kind = 'relist') {
    const listing = store.range(range);
    const listed = await (signal === undefined ? listing : unlessAborted(listing, signal)).catch(
      (error: unknown) => {
        if (!signal?.aborted) throw error;
      },
    );
    if (listed === undefined) return;
    const { entries, revision } = listed;
    const events = difference(known, entries, revision);
    if (kind === 'relist') {
      publish('millrace:watch:relisted', () => ({ class: watchClass, changes: events.length }));
    }
    yield { kind, revision, events };
    try {
      const startRevision = (revision + 1) as Revision;
      for await (const batch of store.watch(range, { ...options, startRevision })) {
        remember(known, batch);
        yield { kind: 'change', ...batch };
      }
      return;
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_COMPACTED')) throw error;
    }
  }
}

/** What leads from what is known to the entries, which are known afterwards. */
function difference(
  known: Map<Key, Revision>,
  entries: readonly Entry[],
  revision: Revision,
): WatchEvent[] {
  const events: WatchEvent[] = [];
  const gone = new Map(known);
  for (const entry of entries) {
    gone.delete(entry.key);
    if (known.get(entry.key) === entry.modRevision) continue;
    known.set(entry.key, entry.modRevision);
    events.push({ type: 'put', entry });
  }
  if (gone.size === 0) return events;
  for (const key of gone.keys()) {
    known.delete(key);
    events.push({ type: 'delete', key, modRevision: revision });
  }
  return events.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

function remember(known: Map<Key, Revision>, { events }: WatchBatch): void {
  for (const event of events) {
    if (event.type === 'put') known.set(event.entry.key, event.entry.modRevision);
    else known.delete(event.key);
  }
}

function keyOf(event: WatchEvent): Key {
  return event.type === 'put' ? event.entry.key : event.key;
}
