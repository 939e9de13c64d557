/** A process that takes a lock and writes under it as fast as it can, until it is refused. */
import { createCoordination } from '../../../src/create-coordination.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';

export interface FromHolder {
  /** `writing`: some writes were accepted. `refused`: one was not, since somebody else has the lock. */
  readonly kind: 'writing' | 'refused';
  /** In decimal: bigints do not travel. */
  readonly token: string;
}

interface Order {
  readonly endpoints: readonly string[];
  readonly namespace: string;
  readonly ttlMs: number;
}

const { endpoints, namespace, ttlMs } = JSON.parse(process.argv[2] ?? '{}') as Order;
const factory = etcdStore({ endpoints, namespace, followMembers: false });
const store = await factory.open({ clock: systemClock });
const coordination = await createCoordination(factory, { ttl: ttlMs });
const space = store.lockSpace;
if (space === undefined) throw new Error('an etcd store has a space for locks');

await coordination.locks.withLock('guarded', {}, async ({ token, compare }) => {
  const tell = (kind: FromHolder['kind']): void => {
    process.send?.({ kind, token: `${token}` } satisfies FromHolder);
  };
  // It never looks at its signal: this is the program that the compare has to stop.
  for (let written = 0; ; written++) {
    const outcome = await space.store.txn({
      compares: [compare],
      success: [
        { type: 'put', key: `/${namespace}/data`, value: new TextEncoder().encode(`${written}`) },
      ],
    });
    if (outcome.kind === 'refused') return tell('refused');
    if (written === 10) tell('writing');
  }
});
await new Promise(() => {});
