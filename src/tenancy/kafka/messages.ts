/**
 * What a write is on Kafka: a list of events as JSON.
 *
 *   key    acme
 *   value  [{"tenant_id":"acme","key":"ns:acme:plan:current","old_rev":4711,"new_rev":4720}, ...]
 *
 * All events of one write travel in one message, so that a write is heard as a whole or not at all.
 */
import { MillraceError } from '../../core/errors.js';
import { utf8 } from '../../core/frame.js';
import type { Revision } from '../../core/store.js';
import type { News, SyncEvent } from '../bus.js';
import { counterKey, counterKeyOf, isEntryKey, parseKey } from '../keys.js';

/** More than any write has; a longer list is not ours. */
const EVENTS_MAX = 128;

/** REQUIRES: a write, so with its old revision. */
export function encodeNews({ counter, oldRevision, newRevision, changes }: News): {
  readonly key: string;
  readonly value: string;
} {
  const tenant = parseKey(counter)?.tenant ?? '';
  const events = changes.map(
    ({ key }): SyncEvent => ({
      tenant_id: tenant,
      key,
      old_rev: oldRevision ?? 0,
      new_rev: newRevision,
    }),
  );
  return { key: tenant, value: JSON.stringify(events) };
}

/**
 * @returns undefined for an empty list
 * @throws ERR_MILLRACE_STORE_CORRUPT for what is no list of events of one write
 */
export function decodeNews(value: Uint8Array): News | undefined {
  let events: unknown;
  try {
    events = JSON.parse(utf8(value));
  } catch (cause) {
    throw unreadable('it is not JSON', cause);
  }
  if (!Array.isArray(events) || events.length > EVENTS_MAX) throw unreadable('it is no short list');
  const [first] = events as unknown[];
  if (first === undefined) return undefined;
  const { tenant_id, old_rev, new_rev } = checked(first);
  const counter = counterKey(tenant_id);
  const changes = events.map((each: unknown) => {
    const event = checked(each);
    const isSame = event.old_rev === old_rev && event.new_rev === new_rev;
    if (!isSame || counterKeyOf(event.key) !== counter) throw unreadable('it is of several writes');
    return { key: event.key, entry: undefined };
  });
  return {
    counter,
    oldRevision: old_rev as Revision,
    newRevision: new_rev as Revision,
    changes,
  };
}

function checked(event: unknown): SyncEvent {
  const { tenant_id, key, old_rev, new_rev } = (event ?? {}) as Partial<SyncEvent>;
  const isFine =
    typeof tenant_id === 'string' &&
    typeof key === 'string' &&
    isEntryKey(key) &&
    parseKey(key)?.tenant === tenant_id &&
    Number.isSafeInteger(old_rev) &&
    Number.isSafeInteger(new_rev) &&
    (old_rev as number) >= 0 &&
    (new_rev as number) > (old_rev as number);
  if (!isFine) throw unreadable('it has an event without its four fields');
  return event as SyncEvent;
}

function unreadable(reason: string, cause?: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `a message on the metadata topic is not ours: ${reason}; give the topic to millrace alone`,
    { details: { reason }, cause },
  );
}
