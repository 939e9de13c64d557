/** The watchdog on virtual time, over counts that the test makes up. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { it, type TestContext } from 'node:test';
import { type ChannelName, type ChannelPayloads, publish } from '../../src/core/channels.js';
import { OwnedHandle } from '../../src/core/owned-handles.js';
import { ACTIONS, Actions } from '../../src/healing/actions.js';
import { Degradation } from '../../src/healing/degradation.js';
import { WINDOW } from '../../src/healing/growth.js';
import { LeakWatchdog } from '../../src/healing/leak-watchdog.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { fakePorts } from './ports.js';

const EVERY_MS = 5_000;
const incarnation = 'here';

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const { levers, gate, pulled } = fakePorts();
  const counts = new Map<string, number>();
  const degradation = new Degradation(clock, levers, { incarnation, watchDelay: undefined });
  const actions = new Actions(clock, levers, gate, {
    ...{ incarnation, allowed: new Set(ACTIONS), isDryRun: false, degradeMs: 1, graceMs: 0 },
    breakers: undefined,
    degradation,
  });
  const watchdog = new LeakWatchdog(clock, levers, actions, {
    incarnation,
    everyMs: EVERY_MS,
    processCounts: () => counts,
  });
  const heard: [ChannelName, { readonly kind: string }][] = [];
  for (const name of ['suspected', 'cleared', 'confirmed'] as const) {
    const channel: ChannelName = `millrace:leak:${name}`;
    const listener = (said: unknown): void => void heard.push([channel, said as { kind: string }]);
    subscribe(channel, listener);
    t.after(() => unsubscribe(channel, listener));
  }
  await watchdog.start();
  t.after(() => watchdog.stop());
  /** Lets so many samples be taken. */
  const sample = async (samples: number, each: (i: number) => void): Promise<void> => {
    for (let i = 0; i < samples; i++) {
      each(i);
      await clock.advance(EVERY_MS);
    }
  };
  return { clock, counts, heard, sample, pulled, watchdog };
}

function report(open: Readonly<Record<string, number>>, left = 0): void {
  publish('millrace:thread:handles', () => ({
    incarnation,
    threadId: 7,
    open,
    left:
      left > 0 ? [{ type: 'mail', kind: 'TCPSocketWrap', count: left, site: 'at mail.js' }] : [],
    hasEnded: false,
  }));
}

const saidOf = (heard: readonly [ChannelName, object][]): string[] =>
  heard.map(([name]) => name.slice('millrace:leak:'.length));

it('a count that grows and stays is confirmed: evidence first, then the worker that has most of it', async (t) => {
  const { heard, sample, pulled } = await setup(t);
  await sample(WINDOW + 40, (i) => report({ TCPSocketWrap: 3 + i }, 1));
  assert.deepEqual(saidOf(heard), ['suspected', 'confirmed']);
  const verdict = heard[1]![1] as ChannelPayloads['millrace:leak:confirmed'];
  assert.equal(verdict.kind, 'worker:TCPSocketWrap');
  assert.equal(verdict.type, 'mail');
  assert.equal(verdict.sites[0]!.stack, 'at mail.js');
  assert.ok(Math.abs(verdict.growthPerSecond - 1 / 5) < 0.01);
  const steps = pulled.filter((step) => step !== 'inspect 0');
  assert.deepEqual(steps, ['inspect 30000', 'hold true', 'hold false', 'capture', 'replace one 7']);
});

it('a count that falls back once nothing runs is cleared, and nothing is replaced', async (t) => {
  const { counts, heard, sample, pulled } = await setup(t);
  await sample(WINDOW + 40, (i) => {
    // Whatever held them lets go when nothing new begins.
    counts.set('fd', pulled.includes('hold true') ? 5 : 5 + i);
    if (saidOf(heard).includes('suspected')) counts.set('fd', 5);
  });
  assert.deepEqual(saidOf(heard), ['suspected', 'cleared']);
  assert.ok(!pulled.some((step) => step.startsWith('replace')));
  assert.equal(pulled.at(-1), 'hold false');
});

it('what leaks on the main thread is told of, and no worker is replaced for it', async (t) => {
  const { heard, sample, pulled, counts } = await setup(t);
  await sample(WINDOW + 40, (i) => counts.set('main:Timeout', i));
  assert.deepEqual(saidOf(heard), ['suspected', 'confirmed']);
  assert.ok(pulled.includes('capture'));
  assert.ok(!pulled.some((step) => step.startsWith('replace')));
});

it('locks that pile up are told of with where they were taken', async (t) => {
  const { heard, sample } = await setup(t);
  function takeOne(): void {
    new OwnedHandle('lock', 'order');
  }
  await sample(WINDOW + 40, () => {
    for (let i = 0; i < 4; i++) takeOne();
  });
  const verdict = heard.at(-1)![1] as ChannelPayloads['millrace:leak:confirmed'];
  assert.equal(verdict.kind, 'lock');
  assert.match(verdict.sites[0]!.stack, /takeOne/);
});

it('the same kind is not looked into again within an hour', async (t) => {
  const { heard, sample, counts } = await setup(t);
  let open = 0;
  await sample(WINDOW * 4, () => counts.set('fd', open++));
  assert.deepEqual(saidOf(heard), ['suspected', 'confirmed']);
  await sample(WINDOW * 4, () => counts.set('fd', open++));
  assert.deepEqual(saidOf(heard), ['suspected', 'confirmed', 'suspected', 'confirmed']);
});

it('it stops in the middle of looking into something', async (t) => {
  const { sample, counts, heard, clock, watchdog } = await setup(t);
  let i = 0;
  while (heard.length === 0 && i < 2 * WINDOW) await sample(1, () => counts.set('fd', i++));
  assert.deepEqual(saidOf(heard), ['suspected']);
  await watchdog.stop();
  await clock.advance(60_000);
  assert.deepEqual(saidOf(heard), ['suspected']);
});
