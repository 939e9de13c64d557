/**
 * The format of the store as a whole: which keys there are, and what they mean (keys.ts). Values carry formats of their own.
 *
 *   v/layout   { format }     put by the first node ever; a node that knows only older ones does not start
 *
 * if    create(v/layout) == 0      then put v/layout       sent again until it is known: the compare lets one copy apply
 * else  get v/layout               -> who was first, and what it wrote
 */
import { type Clock, sleep } from '../core/clock.js';
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import type { Store } from '../core/store.js';

const KEY = 'v/layout';
const FORMAT = 1;
const RESEND_DELAY_MS = 200;
const TRIES_MAX = 25;

/**
 * Makes sure that this version may read and write the store.
 *
 * @throws ERR_MILLRACE_STORE_FORMAT when a newer version has laid it out, _STORE_CORRUPT when that cannot be told,
 *   _STORE_UNAVAILABLE
 */
export async function requireLayout(store: Store, clock: Clock): Promise<void> {
  const known = await store.get(KEY);
  if (known !== undefined) return check(known.value);
  for (let tries = 1; ; tries++) {
    const outcome = await store.txn({
      compares: [{ target: 'create', key: KEY, operator: '=', operand: 0 }],
      success: [{ type: 'put', key: KEY, value: Buffer.from(JSON.stringify({ format: FORMAT })) }],
      failure: [{ type: 'get', key: KEY }],
    });
    if (outcome.kind === 'done') return;
    if (outcome.kind === 'refused') {
      const [found] = outcome.results;
      return check(found?.type === 'get' ? found.entry?.value : undefined);
    }
    if (tries === TRIES_MAX) throw outcome.cause;
    await sleep(clock, RESEND_DELAY_MS);
  }
}

function check(value: Uint8Array | undefined): void {
  const format = formatIn(value);
  if (format === undefined) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_CORRUPT',
      `${KEY} does not say which format the store has; look into what else writes there`,
      { details: { key: KEY } },
    );
  }
  if (format <= FORMAT) return;
  throw new MillraceError(
    'ERR_MILLRACE_STORE_FORMAT',
    `the store has format ${format}, and this version reads up to ${FORMAT}; upgrade this node`,
    { details: { format, formatMax: FORMAT } },
  );
}

function formatIn(value: Uint8Array | undefined): number | undefined {
  try {
    const { format } = JSON.parse(utf8(value ?? new Uint8Array())) as { format?: unknown };
    return typeof format === 'number' && format >= 1 ? format : undefined;
  } catch {
    return undefined;
  }
}
