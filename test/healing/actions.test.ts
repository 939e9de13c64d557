/** The rails of healing, on virtual time: what is asked for is not always done. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { publish } from '../../src/core/channels.js';
import { Outcome } from '../../src/core/states.js';
import { ACTIONS, type Action, type ActionOptions, Actions } from '../../src/healing/actions.js';
import { AlertDesk } from '../../src/healing/alerts.js';
import { TypeBreakers } from '../../src/healing/breakers.js';
import { Degradation } from '../../src/healing/degradation.js';
import { type LocalRuleOptions, LocalRules } from '../../src/healing/local-rules.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { DEGRADED, fakePorts, RECOVERED } from './ports.js';

const MINUTE_MS = 60_000;

async function setup(t: TestContext, options: Partial<ActionOptions> = {}) {
  const clock = new VirtualClock();
  const ports = fakePorts();
  const { levers, gate, pulled } = ports;
  const incarnation = 'here';
  const breakers = new TypeBreakers(clock, levers, {
    ...{ incarnation, failures: 5, openMs: 10_000, openMsMax: 10_000, probes: 1 },
  });
  const degradation = new Degradation(clock, levers, { incarnation, watchDelay: undefined });
  const actions = new Actions(clock, levers, gate, {
    ...{ incarnation, allowed: new Set(ACTIONS), isDryRun: false },
    ...{ degradeMs: 10 * MINUTE_MS, graceMs: MINUTE_MS },
    ...options,
    breakers,
    degradation,
  });
  t.after(async () => {
    await breakers.stop();
    await degradation.stop();
  });
  const ask = (action: Action, target = 'x') =>
    actions.request({ action, target, source: 'webhook', reason: 'test' });
  const desk = new AlertDesk(actions, gate, {
    isHere: (instance) => instance === 'n1:9464',
    nowMs: () => clock.monoMs(),
  });
  const rules = async (rule: Partial<LocalRuleOptions>) => {
    const none = { dependency: undefined, cpu: undefined, queueWait: undefined };
    const made = new LocalRules(clock, actions, {
      incarnation,
      ...none,
      cpuShare: () => 0,
      ...rule,
    });
    await made.start();
    t.after(() => made.stop());
  };
  return { clock, ports, pulled, actions, ask, desk, breakers, degradation, rules };
}

test('each action does its one thing', async (t) => {
  const { clock, ask, pulled } = await setup(t);
  await clock.advance(MINUTE_MS);
  for (const action of ACTIONS) assert.equal(await ask(action, 'mail'), 'done', action);
  assert.deepEqual(pulled, [
    'replace one',
    'replace all',
    ...DEGRADED,
    'limit mail 0',
    'capture',
    'exit 75',
  ]);
});

test('nothing is restarted in the first minute; what does not disturb is done at once', async (t) => {
  const { clock, ask } = await setup(t);
  assert.equal(await ask('restart-worker'), 'skipped-grace');
  assert.equal(await ask('degrade'), 'done');
  await clock.advance(MINUTE_MS);
  assert.equal(await ask('restart-worker'), 'done');
});

test('the same restart cools down for 1, 2, 4 ... 30 minutes while it is repeated', async (t) => {
  const { clock, ask } = await setup(t);
  await clock.advance(MINUTE_MS);
  for (const minutes of [1, 2, 4, 8]) {
    assert.equal(await ask('restart-worker'), 'done', `${minutes}`);
    await clock.advance(minutes * MINUTE_MS - 1);
    assert.equal(await ask('restart-worker'), 'skipped-cooldown');
    await clock.advance(1);
  }
  assert.equal(await ask('restart-worker'), 'skipped-budget');
  await clock.advance(60 * MINUTE_MS);
  assert.equal(await ask('restart-worker'), 'done');
});

test('four restarts an hour, whatever they are for: then a human has to look', async (t) => {
  const { clock, ask, pulled, actions } = await setup(t);
  await clock.advance(MINUTE_MS);
  for (const target of ['a', 'b', 'c', 'd', 'e']) await ask('restart-pool', target);
  assert.equal(pulled.length, 4);
  assert.match(actions.audit.at(-1)!.detail, /a human has to look/);
});

test('while another node heals nothing is restarted here, and the next repetition may', async (t) => {
  const { clock, ports, ask } = await setup(t);
  await clock.advance(MINUTE_MS);
  ports.isBusy = true;
  assert.equal(await ask('restart-worker'), 'skipped-busy');
  assert.equal(await ask('degrade'), 'done');
  ports.isBusy = false;
  assert.equal(await ask('restart-worker'), 'done');
});

test('a breaker is opened of types that run here only: whatever else alerts name is refused, and leaves nothing behind', async (t) => {
  const { ask, breakers, pulled, actions } = await setup(t);
  for (let i = 0; i < 10_000; i++)
    assert.equal(await ask('open-breaker', `made-up-${i}`), 'refused');
  assert.deepEqual(pulled, []);
  assert.equal(breakers.typeCount, 0);
  assert.equal(actions.audit.at(-1)!.detail, "no task type 'made-up-9999' runs here");
  actions.resolve({ action: 'open-breaker', target: 'made-up-1' });
  assert.equal(await ask('open-breaker', 'mail'), 'done');
  assert.deepEqual([breakers.typeCount, breakers.stateOf('mail')], [1, 'open']);
});

test('a dry run says what would be done and does nothing', async (t) => {
  const { clock, ask, pulled, actions } = await setup(t, { isDryRun: true });
  await clock.advance(MINUTE_MS);
  for (const action of ACTIONS) assert.equal(await ask(action), 'dry-run');
  assert.deepEqual(pulled, []);
  assert.equal(actions.audit.length, ACTIONS.length);
});

test('what is not allowed, and everything behind the kill switch, is refused', async (t) => {
  const { clock, ask, actions, pulled } = await setup(t, { allowed: new Set(['degrade']) });
  await clock.advance(MINUTE_MS);
  assert.equal(await ask('exit'), 'refused');
  actions.isEnabled = false;
  assert.equal(await ask('degrade'), 'skipped-off');
  assert.deepEqual(pulled, []);
});

test('an action that fails is audited with its reason', async (t) => {
  const { clock, ports, ask, actions } = await setup(t);
  await clock.advance(MINUTE_MS);
  ports.levers.replaceThreads = async () => {
    throw new Error('no thread starts');
  };
  assert.equal(await ask('restart-worker'), 'failed');
  assert.match(actions.audit.at(-1)!.detail, /no thread starts/);
});

test('diagnostics are captured once an hour, whoever asks', async (t) => {
  const { clock, ask } = await setup(t);
  assert.equal(await ask('capture-diagnostics', 'a'), 'done');
  assert.equal(await ask('capture-diagnostics', 'b'), 'skipped-cooldown');
  await clock.advance(60 * MINUTE_MS);
  assert.equal(await ask('capture-diagnostics', 'b'), 'done');
});

test('a degradation ends with its alert, and by itself when that is never heard of again', async (t) => {
  const { clock, ask, actions, degradation } = await setup(t);
  await ask('degrade', 'EtcdSlow');
  actions.resolve({ action: 'degrade', target: 'EtcdSlow' });
  assert.equal(degradation.isDegraded, false);
  await ask('shed', 'EtcdSlow');
  await clock.advance(10 * MINUTE_MS);
  assert.equal(degradation.isDegraded, false);
});

// --- Alerts ---------------------------------------------------------------------------------------------------------

let alerts = 0;

/** A notification of Alertmanager 0.25 with one alert. */
function notification(labels: object, fields: object = {}, message: object = {}): Buffer {
  const alert = {
    status: 'firing',
    labels: { alertname: 'Sample', ...labels },
    annotations: {},
    startsAt: '2026-11-23T11:42:54Z',
    endsAt: '0001-01-01T00:00:00Z',
    generatorURL: 'http://prom/graph',
    fingerprint: `f${alerts++}`,
    ...fields,
  };
  return Buffer.from(
    JSON.stringify({
      receiver: 'heal',
      status: 'firing',
      version: '4',
      alerts: [alert],
      ...message,
    }),
  );
}

test('an alert is acted upon by its label action, aliases included', async (t) => {
  const { clock, desk, pulled } = await setup(t);
  await clock.advance(MINUTE_MS);
  for (const labels of [
    { action: 'restart' },
    { action: 'degrade', instance: 'n1:9464' },
    { action: 'circuit-break', type: 'mail' },
  ]) {
    assert.deepEqual(desk.receive(notification(labels)), { status: 202, accepted: 1 });
  }
  await desk.idle();
  assert.deepEqual(pulled, ['replace one', ...DEGRADED, 'limit mail 0']);
});

test('a thousand replays, at once and over a day, are one action', async (t) => {
  const { clock, desk, pulled, actions } = await setup(t);
  const body = notification({ action: 'degrade' });
  for (let i = 0; i < 1_000; i++) assert.equal(desk.receive(body).status, 202);
  await desk.idle();
  for (let i = 0; i < 24; i++) {
    await clock.advance(50 * MINUTE_MS);
    desk.receive(body);
    await desk.idle();
  }
  assert.deepEqual(pulled, [...DEGRADED, ...RECOVERED]);
  assert.equal(actions.audit.length, 1);
});

test('what the rails held back is asked for again by the next repetition', async (t) => {
  const { clock, desk, pulled } = await setup(t);
  const body = notification({ action: 'restart-worker' });
  desk.receive(body);
  await desk.idle();
  await clock.advance(MINUTE_MS);
  desk.receive(body);
  await desk.idle();
  assert.deepEqual(pulled, ['replace one']);
});

test('a resolved alert lifts what the firing one did; each alert counts, not its group', async (t) => {
  const { desk, degradation } = await setup(t);
  const fields = { fingerprint: 'same' };
  desk.receive(notification({ action: 'degrade' }, fields));
  await desk.idle();
  assert.equal(degradation.isDegraded, true);
  desk.receive(notification({ action: 'degrade' }, { ...fields, status: 'resolved' }));
  await desk.idle();
  assert.equal(degradation.isDegraded, false);
});

test('alerts that are unknown, malformed or meant for another node do nothing', async (t) => {
  const { desk, pulled, actions } = await setup(t);
  for (const body of [
    notification({ action: 'rm -rf /' }),
    notification({ action: '__proto__' }),
    notification({ action: ['degrade'] }),
    notification({}),
    notification({ action: 'degrade', instance: 'n2:9464' }),
    notification({ action: 'open-breaker' }),
    notification({ action: 'open-breaker', type: 'x\u0000y' }),
    notification({ action: 'degrade' }, { fingerprint: 5 }),
    notification({ action: 'degrade' }, { startsAt: 'x'.repeat(300) }),
    notification({ action: 'degrade' }, { status: 'burning' }),
    notification({ action: 'degrade' }, { labels: null }),
    notification({}, {}, { alerts: [null, 1, 'x', []] }),
  ]) {
    assert.deepEqual(desk.receive(body), { status: 202, accepted: 0 });
  }
  await desk.idle();
  assert.deepEqual([pulled, actions.audit], [[], []]);
});

test('of an alert with very many labels the four that are known count, and nothing else is kept', async (t) => {
  const { desk, pulled, actions } = await setup(t);
  const many = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`l${i}`, 'mark']));
  const body = notification({ ...many, action: 'degrade' }, { annotations: many }, { many });
  assert.deepEqual(desk.receive(body), { status: 202, accepted: 1 });
  await desk.idle();
  assert.deepEqual(pulled, DEGRADED);
  assert.ok(!JSON.stringify(actions.audit).includes('mark'));
});

test('what is no notification of version 4 is refused, more than can wait is sent away', async (t) => {
  const { desk } = await setup(t);
  const alert = { action: 'degrade' };
  for (const body of [
    Buffer.from(''),
    Buffer.from('{"version":'),
    Buffer.from('[]'),
    Buffer.from('null'),
    Buffer.from([0xff, 0xfe]),
    notification(alert, {}, { version: '3' }),
    notification(alert, {}, { version: 4 }),
    notification(alert, {}, { alerts: {} }),
    notification(alert, {}, { alerts: Array(1_001).fill({}) }),
  ]) {
    assert.equal(desk.receive(body).status, 400);
  }
  const many = Array.from({ length: 1_000 }, (_, i) => ({
    ...{ status: 'firing', labels: { alertname: 'Many', action: 'degrade' } },
    ...{ startsAt: 'now', fingerprint: `many${i}` },
  }));
  assert.equal(desk.receive(notification({}, {}, { alerts: many })).status, 202);
  assert.equal(desk.receive(notification(alert)).status, 503);
  await desk.idle();
  assert.equal(desk.receive(notification(alert)).status, 202);
  await desk.idle();
});

test('while the store is silent nothing is done: it may have been done already', async (t) => {
  const { clock, ports, desk, pulled, actions } = await setup(t);
  const body = notification({ action: 'degrade' });
  ports.isSilent = true;
  desk.receive(body);
  await desk.idle();
  assert.deepEqual(pulled, []);
  assert.equal(actions.audit.at(-1)?.result, 'failed');
  ports.isSilent = false;
  await clock.advance(10_000);
  desk.receive(body);
  await desk.idle();
  assert.deepEqual(pulled, DEGRADED);
});

// --- Local rules ----------------------------------------------------------------------------------------------------

/** A frame of executions, some of which found nobody to answer. */
function executions(count: number, unavailable: number): void {
  publish('millrace:batch:reported', () => ({
    ...{ incarnation: 'here', pool: 'thread' },
    types: Array(count).fill('call'),
    queues: Array(count).fill('default'),
    outcomes: Array.from({ length: count }, (_, i) =>
      i < unavailable ? Outcome.FAILED : Outcome.COMPLETED,
    ),
    runMs: Array(count).fill(1),
    isOverdue: Array(count).fill(false),
  }));
  for (let i = 0; i < unavailable; i++) {
    publish('millrace:task:retry', () => ({
      ...{
        incarnation: 'here',
        taskId: 'i',
        type: 'call',
        queue: 'default',
        attempt: 1,
        delayMs: 1,
      },
      error: { code: 'ECONNREFUSED' },
    }));
  }
}

test('more than 15 % of executions without an answer for a minute degrade, and less lift it', async (t) => {
  const { clock, rules, degradation, pulled } = await setup(t);
  await rules({ dependency: { above: 0.15, forMs: MINUTE_MS } });
  const go = async (unavailable: number, forMs: number) => {
    for (let ms = 0; ms < forMs; ms += 5_000) {
      executions(100, unavailable);
      await clock.advance(5_000);
    }
  };
  await go(15, 10 * MINUTE_MS);
  await go(16, 55_000);
  await go(0, 5_000);
  await go(16, MINUTE_MS);
  assert.deepEqual(pulled, []);
  await go(16, 10_000);
  assert.equal(degradation.isDegraded, true);
  await go(0, 5_000);
  assert.equal(degradation.isDegraded, false);
});

test('few executions say nothing', async (t) => {
  const { clock, rules, pulled } = await setup(t);
  await rules({ dependency: { above: 0.15, forMs: 0 } });
  executions(19, 19);
  await clock.advance(MINUTE_MS);
  assert.deepEqual(pulled, []);
});

test('what one rung does not mend, the next one tries', async (t) => {
  const { clock, rules, pulled } = await setup(t);
  let share = 0.95;
  await rules({ cpu: { above: 0.9, forMs: 3 * MINUTE_MS }, cpuShare: () => share });
  await clock.advance(3 * MINUTE_MS);
  assert.deepEqual(pulled, []);
  await clock.advance(10_000);
  assert.deepEqual(pulled, ['replace one']);
  await clock.advance(MINUTE_MS);
  assert.deepEqual(pulled, ['replace one', 'replace all']);
  await clock.advance(MINUTE_MS);
  assert.deepEqual(pulled.slice(2), DEGRADED);
  share = 0.1;
  await clock.advance(5_000);
  assert.deepEqual(pulled.slice(5), RECOVERED);
});
