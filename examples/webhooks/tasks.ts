/**
 * Delivers events to other people's servers, which are slow, down, or gone.
 *
 *   2xx              delivered
 *   410, other 4xx   never will be: no retry helps
 *   429, 503         the server says when: `Retry-After`, at no attempt
 *   the rest         retried with backoff, for about a day
 *
 * Delivery is at least once. What repeats has the same `webhook-id`, and the signature covers it, so a receiver can tell.
 */
import { createHmac } from 'node:crypto';
import { defineTask, defineTasks, NonRetryableError } from 'millrace';

export interface Delivery {
  readonly url: string;
  readonly event: string;
  readonly data: unknown;
}

const SECRET = process.env.WEBHOOK_SECRET ?? 'not a secret';
const BUSY = [429, 503];
const TRANSIENT = [408, 425];

export const deliver = defineTask({
  name: 'webhook.deliver',
  // It only waits for others: no thread is needed.
  exec: 'inline',
  concurrency: 100,
  timeout: '30s',
  retry: { attempts: 12, min: process.env.RETRY_MIN === 'short' ? '20ms' : '5s', max: '6h' },
  async run({ url, event, data }: Delivery, ctx) {
    const id = ctx.execution.taskId;
    const body = JSON.stringify({ event, data });
    const response = await fetch(url, {
      method: 'POST',
      body,
      signal: ctx.signal,
      headers: {
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-signature': createHmac('sha256', SECRET).update(`${id}.${body}`).digest('hex'),
      },
    });
    await response.body?.cancel();
    const { status } = response;
    if (response.ok) return { status, attempts: ctx.execution.attempt };
    const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
    if (BUSY.includes(status) && seconds >= 0) return ctx.snooze(seconds * 1_000);
    if (status >= 400 && status < 500 && !TRANSIENT.includes(status) && !BUSY.includes(status)) {
      throw new NonRetryableError(`${url} answered ${status}`);
    }
    throw new Error(`${url} answered ${status}`);
  },
});

export default defineTasks({ deliver });
