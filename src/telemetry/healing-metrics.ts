/** Counts what healing does: rare events, each of which somebody will ask about. */
import type { Subscriptions } from '../core/subscriptions.js';
import type { MetricRegistry } from './metric-registry.js';

const STATES = ['closed', 'open', 'half-open'] as const;

export function countHealing(metrics: MetricRegistry, events: Subscriptions): void {
  metrics.cell('degraded').set(0);
  events.on('millrace:breaker:changed', ({ type, state }) => {
    for (const one of STATES) metrics.cell('breakerState', type, one).set(Number(one === state));
    if (state === 'open') metrics.cell('breakerOpened', type).add();
  });
  events.on('millrace:heal:action', ({ action, result }) => {
    metrics.cell('healActions', action, result).add();
  });
  events.on('millrace:leak:sampled', ({ counts, suspect }) => {
    for (const [kind, count] of counts) {
      metrics.cell('leakResources', kind).set(count);
      metrics.cell('leakSuspected', kind).set(Number(kind === suspect));
      // A counter that begins at 1 has not increased, for Prometheus.
      metrics.cell('leaksConfirmed', kind).add(0);
    }
  });
  events.on('millrace:leak:confirmed', ({ kind }) => {
    metrics.cell('leaksConfirmed', kind).add();
  });
  events.on('millrace:thread:handles', ({ left }) => {
    for (const { type, kind, count } of left) metrics.cell('handlesLeft', type, kind).add(count);
  });
  events.on('millrace:handle:dropped', ({ kind }) => {
    metrics.cell('handlesDropped', kind).add();
  });
  events.on('millrace:runtime:degraded', ({ isDegraded }) => {
    metrics.cell('degraded').set(Number(isDegraded));
  });
}
