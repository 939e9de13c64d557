/** Definitions of cron entries for tests, which say what they are about and leave the rest. */
import type { CronDefinition } from '../../src/engine/cron/entry.js';

/** Hourly, in UTC, unless told otherwise. */
export function cronDefinition(changes: Partial<CronDefinition> = {}): CronDefinition {
  return {
    name: 'hourly',
    expression: '0 * * * *',
    timeZone: 'UTC',
    jitterMs: 0,
    overlap: 'skip',
    catchUp: 'one',
    type: 'work',
    queue: 'default',
    tenant: '',
    priority: 0,
    ttlMs: 0,
    payload: 'null',
    ...changes,
  };
}
