/**
 * A process that takes a lock and writes under it as fast as it can. It never looks at its signal, so only the compare
 * stands between it and the data; the naive one leaves that out.
 */
import { createCoordination } from '../../../src/create-coordination.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';

export interface FromHolder {
  /** `writing`: some writes were accepted. `over`: it has gone on after a pause, and tried so many. */
  readonly kind: 'writing' | 'over';
  /** In decimal: bigints do not travel. */
  readonly token: string;
  readonly accepted: number;
  readonly refused: number;
}

export interface Order {
  readonly endpoints: readonly string[];
  readonly namespace: string;
  readonly ttlMs: number;
  /** The name of the lock, and of the key that is written. */
  readonly name: string;
  /** Whether writes compare the lock. */
  readonly isFenced: boolean;
}

const ATTEMPTS_AFTER = 50;

const { endpoints, namespace, ttlMs, name, isFenced } = JSON.parse(process.argv[2] ?? '') as Order;
const factory = etcdStore({ endpoints, namespace, followMembers: false });
const store = await factory.open({ clock: systemClock });
const coordination = await createCoordination(factory, { ttl: ttlMs });
const space = store.lockSpace;
if (space === undefined) throw new Error('an etcd store has a space for locks');

await coordination.locks.withLock(name, {}, async ({ token, compare }) => {
  let [accepted, refused] = [0, 0];
  const tell = (kind: FromHolder['kind']): void => {
    process.send?.({ kind, token: `${token}`, accepted, refused } satisfies FromHolder);
  };
  const write = async (): Promise<void> => {
    const outcome = await space.store.txn({
      compares: isFenced ? [compare] : [],
      success: [{ type: 'put', key: `/${namespace}/${name}`, value: Buffer.from('old holder') }],
    });
    if (outcome.kind === 'done') accepted++;
    if (outcome.kind === 'refused') refused++;
  };
  let lastAtMs = performance.now();
  for (;;) {
    await write();
    const nowMs = performance.now();
    if (nowMs - lastAtMs > ttlMs) break;
    lastAtMs = nowMs;
    if (accepted === 10) tell('writing');
  }
  // What was under way when it was stopped may have been applied before the pause: it is not counted.
  [accepted, refused] = [0, 0];
  for (let attempt = 0; attempt < ATTEMPTS_AFTER; attempt++) await write();
  tell('over');
});
await new Promise(() => {});
