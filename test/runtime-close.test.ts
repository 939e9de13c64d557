/**
 * Closing a runtime whose store has gone for good: within its budget, and with an answer for everybody who waits.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { cluster } from '../src/testing/cluster.js';

const SOFT_MS = 2_000;
const HARD_MS = 4_000;
/** Beyond `hard`: five seconds for the last commits, and for the last answers of a silent store. */
const REST_MS = 9_000;

async function setup({ cutForMs }: { readonly cutForMs: number }) {
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    run: async ({ tookMs }: { readonly tookMs: number }) => {
      await c.sleep(tookMs);
      return tookMs;
    },
  });
  const c = await cluster(2, {
    tasks: defineTasks({ work }),
    runtime: { session: { ttl: '3s' }, shutdown: { soft: SOFT_MS, hard: HARD_MS } },
  });
  const [a, b] = c.nodes;
  const handle = await c.run(a!.runtime.submit(work, { tookMs: 500 }));
  const result = codeOf(handle.result());
  a!.partition();
  const submitted = codeOf(a!.runtime.submit(work, { tookMs: 1 }));
  await c.advance(cutForMs);
  return { c, a: a!, b: b!, work, handle, result, submitted };
}

/** @returns the code that a promise is rejected with, `done` when it is not */
async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'done'> {
  try {
    await promise;
    return 'done';
  } catch (error) {
    for (const code of ['ERR_MILLRACE_CLOSED', 'ERR_MILLRACE_STORE_UNAVAILABLE'] as const) {
      if (hasCode(error, code)) return code;
    }
    throw error;
  }
}

for (const cutForMs of [0, 1_000, 3_500, 60_000]) {
  test(`a runtime closes within its budget ${cutForMs} ms after its store has gone, and everybody is told`, async () => {
    const { c, a, b, work, handle, result, submitted } = await setup({ cutForMs });
    const beganAtMs = c.nowMs;
    await c.run(a.runtime.close(), { within: HARD_MS + REST_MS });
    const tookMs = c.nowMs - beganAtMs;
    assert.ok(tookMs <= HARD_MS + REST_MS, `${tookMs} ms`);
    assert.equal(await result, 'ERR_MILLRACE_CLOSED');
    assert.equal(await submitted, 'ERR_MILLRACE_STORE_UNAVAILABLE');
    // The task itself is safe.
    assert.equal(await c.run(b.runtime.handle(work, handle.id).result()), 500);
    a.kill();
    await c.close();
  });
}
