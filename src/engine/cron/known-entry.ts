/**
 * A cron entry as it stands, with the calendar of its expression.
 */
import { publish } from '../../core/channels.js';
import { isMillraceError } from '../../core/errors.js';
import type { Entry } from '../../core/store.js';
import { type CronEntry, decodeEntry, isSameDefinition } from './entry.js';
import { Schedule } from './schedule.js';

export interface KnownEntry extends CronEntry {
  readonly schedule: Schedule;
}

/**
 * What is stored under a key; undefined when it cannot be read, of which an event tells.
 *
 * @param before - the schedule of the same definition is used again: most news of an entry is that it has fired
 */
export function readEntry(
  { key, value }: Pick<Entry, 'key' | 'value'>,
  before?: { readonly entry: CronEntry; readonly schedule: Schedule },
): KnownEntry | undefined {
  try {
    const entry = decodeEntry(key, value);
    const { definition } = entry;
    const isSame = before !== undefined && isSameDefinition(before.entry.definition, definition);
    const { expression, timeZone } = definition;
    return { ...entry, schedule: isSame ? before.schedule : new Schedule(expression, timeZone) };
  } catch (cause) {
    if (!isMillraceError(cause)) throw cause;
    publish('millrace:store:corrupt', () => ({ key, cause }));
    return undefined;
  }
}
