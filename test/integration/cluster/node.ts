/**
 * A node of a test's fleet: a process with a runtime. It tells its parent what the test judges by, and ends as a
 * service would: gently, on SIGTERM.
 */
import { channel } from 'node:diagnostics_channel';
import { prefixRange } from '../../../src/core/store.js';
import { createRuntime } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';

/** What a node is told, as JSON in its first argument. */
export interface NodeOrder {
  readonly endpoints: readonly string[];
  readonly namespace: string;
  readonly ttlMs: number;
  /** URL of its tasks module. */
  readonly tasks: string;
  readonly softMs: number;
}

/** What a node tells. */
export type FromNode =
  | { readonly kind: 'ready'; readonly node: string }
  /** Its lease was over: what it ran may have been given to others. */
  | { readonly kind: 'session-lost' }
  /** A task is due that it has no handler of. */
  | { readonly kind: 'unhandled'; readonly type: string };

const order = JSON.parse(process.argv[2] ?? '') as NodeOrder;
const { endpoints, namespace } = order;
const tell = (message: FromNode): void => void process.send?.(message);

channel('millrace:session:lost').subscribe(() => tell({ kind: 'session-lost' }));
channel('millrace:task:unhandled').subscribe((told) =>
  tell({ kind: 'unhandled', type: (told as { type: string }).type }),
);
await createRuntime({
  tasks: order.tasks,
  store: etcdStore({ endpoints, namespace }),
  threads: { min: 1, max: 1 },
  session: { ttl: order.ttlMs },
  shutdown: { soft: order.softMs, hard: 2 * order.softMs },
  signals: true,
});
const store = await etcdStore({ endpoints, namespace }).open({ clock: systemClock });
const { entries } = await store.range(prefixRange('n/'));
const self = entries.find(
  ({ value }) => JSON.parse(Buffer.from(value).toString()).pid === process.pid,
);
await store.close();
tell({ kind: 'ready', node: self!.key.slice('n/'.length) });
// The channel to the parent must not keep a process that has closed its runtime.
process.channel?.unref();
