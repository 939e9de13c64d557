/** Counts what is said of the store, of agreement over it, and of threads: rare events, or one for each commit. */

import type { Subscriptions } from '../core/subscriptions.js';
import type { MetricRegistry } from './metric-registry.js';

const PRESSURE = { none: 0, slow: 1, refuse: 2 } as const;

export function countStore(metrics: MetricRegistry, events: Subscriptions): void {
  const done = metrics.cell('commits', 'done');
  const seconds = metrics.cell('commitSeconds');
  const written = metrics.cell('commitBytes');
  events.on('millrace:commit:done', ({ bytes, elapsedMs }) => {
    done.add();
    seconds.observe(elapsedMs / 1_000);
    written.add(bytes);
  });
  for (const outcome of ['unknown', 'broken', 'failed'] as const) {
    events.on(`millrace:commit:${outcome}`, () => metrics.cell('commits', outcome).add());
  }
  events.on('millrace:store:pressure', ({ pressure }) => {
    metrics.cell('storePressure').set(PRESSURE[pressure]);
  });
  events.on('millrace:store:corrupt', () => metrics.cell('storeCorrupt').add());
  events.on('millrace:watch:delay', ({ class: watchClass, delayMs }) => {
    metrics.cell('watchDelay', watchClass).set(delayMs / 1_000);
  });
  events.on('millrace:watch:cut', ({ class: watchClass }) => {
    metrics.cell('watchCuts', watchClass).add();
  });
  events.on('millrace:watch:relisted', ({ class: watchClass }) => {
    metrics.cell('watchCompacted', watchClass).add();
  });
  for (const event of ['granted', 'fenced', 'lifted', 'lost'] as const) {
    events.on(`millrace:session:${event}`, () => metrics.cell('sessionEvents', event).add());
  }
  events.on('millrace:lock:acquired', ({ waitMs }) => {
    metrics.cell('lockWait').observe(waitMs / 1_000);
  });
  events.on('millrace:lock:released', ({ isLost }) => {
    if (isLost) metrics.cell('locksLost').add();
  });
  events.on('millrace:pool:thread-lost', ({ cause }) => {
    const { reason } = cause.details;
    metrics.cell('workerRestarts', typeof reason === 'string' ? reason : 'exit').add();
  });
}
