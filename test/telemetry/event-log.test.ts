import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type ChannelName, type ChannelPayloads, publish } from '../../src/core/channels.js';
import { MillraceError } from '../../src/core/errors.js';
import type { LogLevel } from '../../src/core/task.js';
import { EventLog } from '../../src/telemetry/event-log.js';
import { LOG_EVENTS } from '../../src/telemetry/log-events.js';
import { type LogOptions, resolveLogs } from '../../src/telemetry/log-options.js';
import type { Logger } from '../../src/telemetry/logger.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly event?: string;
  readonly [field: string]: unknown;
}

async function setup(t: TestContext, options: LogOptions = {}, overrides: Partial<Logger> = {}) {
  const clock = new VirtualClock();
  const lines: Line[] = [];
  const write =
    (level: LogLevel) =>
    (fields: object, message: string): void =>
      void lines.push({ level, message, ...fields });
  const logger: Logger = {
    trace: write('trace'),
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    fatal: write('fatal'),
    ...overrides,
  };
  let flushes = 0;
  const log = new EventLog(
    clock,
    { logger, flush: () => void flushes++ },
    {
      ...resolveLogs(options),
      incarnation: 'here',
    },
  );
  await log.start();
  t.after(() => log.stop());
  return { clock, log, lines, flushes: () => flushes };
}

const cause = new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', 'no answer', {
  details: { endpoint: 'etcd://u:pw@host', password: 'canary' },
});

/** Whom an event is about. */
const about = (type: string) => ({ incarnation: 'here', taskId: 'id', type, queue: 'default' });

function retry(type = 'mail.send', error: unknown = new Error('no')): void {
  publish('millrace:task:retry', () => ({
    ...about(type),
    attempt: 1,
    delayMs: 5,
    error,
  }));
}

function handlerLine(fields: Partial<ChannelPayloads['millrace:task:log']> = {}): void {
  publish('millrace:task:log', () => ({
    taskId: 'id',
    type: 'mail.send',
    attempt: 2,
    level: 'info',
    atMs: 0,
    message: 'said',
    dropped: 0,
    ...fields,
  }));
}

test('an event is one line: its noun, its level, its facts', async (t) => {
  const { lines } = await setup(t);
  publish('millrace:task:lost', () => ({ ...about('mail.send'), losses: 1 }));
  assert.deepEqual(lines, [
    {
      level: 'warn',
      message: 'a thread or process died under a task',
      event: 'task.lost',
      taskId: 'id',
      type: 'mail.send',
      queue: 'default',
      losses: 1,
    },
  ]);
});

test('heartbeats are kept 1 in 100, and the line says for how many it stands', async (t) => {
  const { lines } = await setup(t);
  const beat = { class: 'control', delayMs: 3, commitMs: 1 } as const;
  for (let i = 0; i < 201; i++) publish('millrace:watch:delay', () => beat);
  assert.deepEqual(
    lines.map(({ event, sampled }) => [event, sampled]),
    [
      ['watch.delay', undefined],
      ['watch.delay', 100],
      ['watch.delay', 100],
    ],
  );
});

test('warnings and errors are never held back, whatever the rules say', async (t) => {
  const { lines } = await setup(t, { sample: { heartbeats: 0, events: 0, lines: 0 } });
  for (let i = 0; i < 500; i++) {
    publish('millrace:task:failed', () => ({ ...about('x'), attempt: 1, error: cause }));
    publish('millrace:lock:released', () => ({ name: 'l', token: 1n, heldMs: 1, isLost: true }));
    handlerLine({ level: 'warn' });
    handlerLine({ level: 'fatal' });
    handlerLine({ level: 'info' });
  }
  assert.equal(lines.length, 2_000);
});

test('events: the first 20 a second of each task type, then 1 in 100', async (t) => {
  const { clock, lines } = await setup(t);
  for (let i = 0; i < 500; i++) retry('often');
  retry('rare');
  assert.equal(lines.filter(({ type }) => type === 'often').length, 20 + 5);
  assert.equal(lines.filter(({ type }) => type === 'rare').length, 1);
  await clock.advance(1_000);
  retry('often');
  assert.equal(lines.at(-1)?.sampled, 80);
});

test('rules for each level, and for what handlers say by message', async (t) => {
  const { lines } = await setup(t, {
    sample: { lines: { debug: 0, info: { first: 1, per: '1m', every: 0 } } },
  });
  for (const message of ['a', 'a', 'b', 'a', 'b']) {
    handlerLine({ message });
    handlerLine({ message, level: 'debug' });
    handlerLine({ message, level: 'trace' });
  }
  const said = (level: string): string[] =>
    lines.filter((line) => line.level === level).map(({ message }) => message);
  assert.deepEqual(said('info'), ['a', 'b']);
  assert.deepEqual(said('debug'), []);
  assert.equal(said('trace').length, 5);
});

test('what was held back is summed up once a minute, and at the end', async (t) => {
  const { clock, log, lines, flushes } = await setup(t, { sample: { events: 0 } });
  for (let i = 0; i < 7; i++) retry('a');
  retry('b');
  assert.deepEqual(log.counts, { suppressed: { trace: 0, debug: 0, info: 8 }, failed: 0 });
  assert.deepEqual(lines, []);
  await clock.advance(60_000);
  assert.deepEqual(lines, [
    {
      level: 'info',
      message: 'lines were held back by sampling',
      event: 'logs.suppressed',
      lines: 8,
      kinds: 2,
      most: [
        { event: 'task.retry', level: 'info', key: 'a', lines: 7 },
        { event: 'task.retry', level: 'info', key: 'b', lines: 1 },
      ],
    },
  ]);
  await clock.advance(600_000);
  assert.equal(lines.length, 1);
  retry('a');
  await log.stop();
  assert.equal(lines.length, 2);
  assert.equal(flushes(), 1);
  retry('a');
  assert.equal(lines.length, 2);
});

test('nothing is built for a level that the logger does not write', async (t) => {
  let asked = 0;
  const { lines } = await setup(
    t,
    {},
    {
      isLevelEnabled: (level) => {
        asked++;
        return level !== 'info';
      },
    },
  );
  const error = {
    get message(): string {
      return assert.fail('built');
    },
  };
  retry('x', error);
  assert.equal(asked, 1);
  assert.deepEqual(lines, []);
});

test('a logger that throws reaches nobody; it is reported once and counted', async (t) => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  t.after(() => process.removeListener('warning', onWarning));
  const fail = (): never => {
    throw new Error('disk full');
  };
  const { log } = await setup(t, {}, { warn: fail });
  for (let i = 0; i < 3; i++) {
    publish('millrace:task:lost', () => ({ ...about('x'), losses: 1 }));
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(log.counts.failed, 3);
  assert.deepEqual(
    warnings.filter((message) => message.includes('disk full')),
    ['the logger throws: Error: disk full; its lines are lost'],
  );
});

test('a logger without `fatal` gets those lines as errors', async (t) => {
  const { lines } = await setup(t, {}, { fatal: undefined as never });
  handlerLine({ level: 'fatal', message: 'the end' });
  assert.equal(lines[0]?.level, 'error');
});

test('no line of any event holds a secret', async (t) => {
  const { lines } = await setup(t, { sample: { heartbeats: 1, events: 1 } });
  const error = Object.assign(new Error('cannot reach https://ann:canary@host'), {
    details: { token: 'canary', ok: 1 },
    cause: cause,
  });
  // One payload with what any of them reads: names of fields are shared by all.
  const payload = {
    ...{ cause: error, error, keys: ['k'], key: 'k', name: 'n', token: 1n, bugs: [], taskId: 'i' },
    ...{ notStored: [], notSaid: [], owners: [] },
    ...{ type: 't', level: 'info', atMs: 0, message: 'see redis://u:canary@h', dropped: 1 },
    fields: { headers: { authorization: 'canary' }, err: { details: { apiKey: 'canary' } } },
  };
  const names = Object.keys(LOG_EVENTS) as ChannelName[];
  for (const name of names) publish(name, () => payload as never);
  assert.equal(lines.length, names.filter((name) => LOG_EVENTS[name] !== undefined).length);
  const text = JSON.stringify(lines);
  assert.ok(!text.includes('canary'), text);
  assert.match(text, /"ok":1/);
});

test('events of another runtime in the process are not in this log', async (t) => {
  const { lines } = await setup(t);
  publish('millrace:task:lost', () => ({ ...about('x'), incarnation: 'there', losses: 1 }));
  assert.deepEqual(lines, []);
});

test('each line names its event as the channel does', async (t) => {
  const { lines } = await setup(t);
  publish('millrace:lease:sentinel-lost', () => ({ cause }));
  assert.equal(lines[0]?.event, 'lease.sentinel-lost');
  assert.deepEqual(Object.keys(lines[0]?.err as object), [
    'type',
    'message',
    'code',
    'details',
    'stack',
  ]);
});

test('options: what cannot be used is refused with its name', () => {
  for (const [options, message] of [
    [{ sample: -1 }, /logs.sample is -1; give a whole number from 0/],
    [{ sample: { heartbeat: 1 } }, /did you mean logs.sample.heartbeats\?/],
    [{ sample: { events: { first: 0 } } }, /logs.sample.events.first is 0/],
    [{ sample: { events: { info: { first: 1, per: 'x' } } } }, /logs.sample.events.info.per/],
    [{ sample: { lines: { warn: 5 } } }, /no option logs.sample.lines.warn/],
    [{ redact: 'iban' }, /logs.redact is 'iban'; give up to 100 names/],
  ] as const) {
    assert.throws(() => resolveLogs(options as LogOptions), { message });
  }
});
