/**
 * The routes that every server has: what is counted, and whether the runtime is well.
 *
 * Health is for load balancers and supervisors, so it is public, and says nothing but yes or no; why not is in
 * `runtime.health()` and in the log.
 */

import type { AlertsAnswer } from '../healing/alerts.js';
import { EXPOSITION_TYPE } from '../telemetry/exposition.js';
import type { AdminResponse, Route } from './admin-server.js';

/** What the routes ask for. */
export interface Watched {
  prometheus(): string;
  health(): { readonly live: boolean; readonly ready: boolean };
}

/** Several scrapers and a dashboard that ask at once get one text. */
const TEXT_MS = 250;

const ALERT_BYTES_MAX = 1_048_576;

/** Alertmanager's webhook; its token is its own, so that who may read metrics may not restart anything. */
export function alertRoute(token: string, receive: (body: Buffer) => AlertsAnswer): Route {
  return {
    method: 'POST',
    path: '/v1/alerts',
    access: { token },
    bodyBytesMax: ALERT_BYTES_MAX,
    handle: ({ body }) => {
      const { status, ...answer } = receive(body);
      return { status, type: 'application/json', body: `${JSON.stringify(answer)}\n` };
    },
  };
}

/** @param nowMs - monotonic */
export function watchRoutes(watched: Watched, nowMs: () => number): Route[] {
  let text = '';
  let madeAtMs = Number.NEGATIVE_INFINITY;
  const answer = (isWell: boolean): AdminResponse =>
    isWell ? { status: 200, body: 'ok\n' } : { status: 503, body: 'no\n' };
  return [
    {
      method: 'GET',
      path: '/metrics',
      handle: () => {
        if (nowMs() - madeAtMs >= TEXT_MS) {
          madeAtMs = nowMs();
          text = watched.prometheus();
        }
        return { status: 200, type: EXPOSITION_TYPE, body: text };
      },
    },
    {
      method: 'GET',
      path: '/healthz',
      access: 'everybody',
      handle: () => answer(watched.health().live),
    },
    {
      method: 'GET',
      path: '/readyz',
      access: 'everybody',
      handle: () => answer(watched.health().ready),
    },
  ];
}
