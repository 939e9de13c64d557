import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { publish } from '../../src/core/channels.js';
import { fromWire, toWire } from '../../src/core/error-wire.js';
import { Outcome } from '../../src/core/states.js';
import { isUnavailable } from '../../src/core/unavailable.js';
import { type BreakerRule, TypeBreakers } from '../../src/healing/breakers.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { fakePorts } from './ports.js';

const RULE: BreakerRule = { failures: 5, openMs: 10_000, openMsMax: 30_000, probes: 2 };
const TIMEOUT = { name: 'MillraceError', message: '', code: 'ERR_MILLRACE_TASK_TIMEOUT' };

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const limits: (number | undefined)[] = [];
  const levers = {
    ...fakePorts().levers,
    limitType: (_: string, atMost: number | undefined) => void limits.push(atMost),
  };
  const breakers = new TypeBreakers(clock, levers, { ...RULE, incarnation: 'here' });
  await breakers.start();
  t.after(() => breakers.stop());
  return { clock, breakers, limits };
}

/** One frame of results of type `call`, as the engine tells it: the frame, then each failure. */
function frame(...results: ('ok' | 'unavailable' | 'wrong')[]): void {
  publish('millrace:batch:reported', () => ({
    incarnation: 'here',
    pool: 'thread',
    types: results.map(() => 'call'),
    queues: results.map(() => 'default'),
    outcomes: results.map((result) => (result === 'ok' ? Outcome.COMPLETED : Outcome.FAILED)),
    runMs: results.map(() => 1),
    isOverdue: results.map(() => false),
  }));
  for (const result of results) {
    if (result === 'ok') continue;
    const error = result === 'unavailable' ? TIMEOUT : { name: 'Error', message: 'bad input' };
    const about = { incarnation: 'here', taskId: 'i', type: 'call', queue: 'default', attempt: 1 };
    publish('millrace:task:retry', () => ({ ...about, delayMs: 1, error }));
  }
}

test('five failures in a row open it: nothing of the type begins', async (t) => {
  const { breakers, limits } = await setup(t);
  for (let i = 0; i < 4; i++) frame('unavailable');
  assert.equal(breakers.stateOf('call'), 'closed');
  assert.deepEqual(limits, []);
  frame('unavailable');
  assert.equal(breakers.stateOf('call'), 'open');
  assert.equal(breakers.stateOf('other'), 'closed');
  assert.deepEqual(limits, [0]);
});

test('a success, and a failure that is an answer, end the row', async (t) => {
  const { breakers } = await setup(t);
  for (const end of ['ok', 'wrong'] as const) {
    for (let i = 0; i < 4; i++) frame('unavailable');
    frame(end);
  }
  for (let i = 0; i < 4; i++) frame('unavailable');
  assert.equal(breakers.stateOf('call'), 'closed');
});

test('within one frame the order counts: failures that a later success made good are passed over', async (t) => {
  const { breakers } = await setup(t);
  frame(...Array.from({ length: 8 }, () => 'unavailable' as const), 'ok');
  frame('unavailable', 'unavailable', 'ok', 'unavailable', 'unavailable');
  frame('unavailable', 'unavailable');
  assert.equal(breakers.stateOf('call'), 'closed');
  frame('unavailable');
  assert.equal(breakers.stateOf('call'), 'open');
});

test('after its time one at a time is let through; so many successes close it', async (t) => {
  const { clock, breakers, limits } = await setup(t);
  frame(...Array.from({ length: 5 }, () => 'unavailable' as const));
  await clock.advance(9_999);
  assert.equal(breakers.stateOf('call'), 'open');
  await clock.advance(1);
  assert.equal(breakers.stateOf('call'), 'half-open');
  frame('ok');
  assert.equal(breakers.stateOf('call'), 'half-open');
  frame('ok');
  assert.equal(breakers.stateOf('call'), 'closed');
  assert.deepEqual(limits, [0, 1, undefined]);
});

test('a probe that fails opens it for twice as long, up to a bound, and closing forgets that', async (t) => {
  const { clock, breakers } = await setup(t);
  frame(...Array.from({ length: 5 }, () => 'unavailable' as const));
  for (const openMs of [10_000, 20_000, 30_000, 30_000]) {
    await clock.advance(openMs - 1);
    assert.equal(breakers.stateOf('call'), 'open');
    await clock.advance(1);
    assert.equal(breakers.stateOf('call'), 'half-open');
    frame('unavailable');
  }
  await clock.advance(30_000);
  frame('ok', 'ok');
  frame(...Array.from({ length: 5 }, () => 'unavailable' as const));
  await clock.advance(10_000);
  assert.equal(breakers.stateOf('call'), 'half-open');
});

test('somebody else may open it, and let it be tried before its time', async (t) => {
  const { breakers, limits } = await setup(t);
  breakers.open('call');
  breakers.open('call');
  breakers.probe('call');
  breakers.probe('never heard of');
  assert.equal(breakers.stateOf('call'), 'half-open');
  assert.deepEqual(limits, [0, 1]);
});

test('a rule that changes counts from then on, also for what has been counted', async (t) => {
  const { clock, breakers } = await setup(t);
  for (let i = 0; i < 3; i++) frame('unavailable');
  breakers.tune({ failures: 4, openMs: 1_000, openMsMax: 1_000, probes: 1 });
  assert.equal(breakers.stateOf('call'), 'closed');
  frame('unavailable');
  assert.equal(breakers.stateOf('call'), 'open');
  await clock.advance(1_000);
  assert.equal(breakers.stateOf('call'), 'half-open');
  frame('ok');
  assert.equal(breakers.stateOf('call'), 'closed');
});

test('a stopped breaker pulls no lever', async (t) => {
  const { clock, breakers, limits } = await setup(t);
  breakers.open('call');
  await breakers.stop();
  await clock.advance(60_000);
  assert.deepEqual(limits, [0]);
});

test('which failures say that somebody else does not answer', () => {
  const of = (fields: object): boolean =>
    isUnavailable(toWire(Object.assign(new Error('x'), fields)));
  for (const fields of [
    { code: 'ECONNREFUSED' },
    { code: 'UND_ERR_HEADERS_TIMEOUT' },
    { status: 503 },
    { statusCode: 504 },
    { name: 'TimeoutError' },
    { cause: new Error('y', { cause: Object.assign(new Error('z'), { code: 'ETIMEDOUT' }) }) },
  ]) {
    assert.ok(of(fields), JSON.stringify(fields));
  }
  for (const fields of [
    {},
    { code: 'EACCES' },
    { status: 500 },
    { status: 404 },
    { status: 'x' },
  ]) {
    assert.ok(!of(fields), JSON.stringify(fields));
  }
  for (const thrown of [undefined, null, 'x', 503, { cause: null }]) {
    assert.ok(!isUnavailable(thrown));
  }
  const loop = new Error('loop');
  loop.cause = loop;
  assert.ok(!isUnavailable(loop));
});

test('the HTTP status of an error crosses threads', () => {
  const error = fromWire(
    JSON.parse(JSON.stringify(toWire(Object.assign(new Error('x'), { statusCode: 503 })))),
  );
  assert.equal((error as { status?: number }).status, 503);
  assert.equal(toWire(Object.assign(new Error('x'), { status: 7 })).status, undefined);
});
