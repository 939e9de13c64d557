import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import fc from 'fast-check';
import { fromWire, toWire, type WireError } from '../../src/core/error-wire.js';
import {
  hasCode,
  isMillraceError,
  MillraceError,
  NonRetryableError,
} from '../../src/core/errors.js';

/** An upper bound for the wire form of anything, as JSON. */
const WIRE_CHARS_MAX = 200_000;

function full(): MillraceError {
  return new MillraceError('ERR_MILLRACE_STORE_FULL', 'no space', {
    details: { bytes: 5, path: '/data' },
    cause: Object.assign(new RangeError('disk'), { code: 'ENOSPC' }),
  });
}

/** Through a real port, as between two threads. */
async function posted(value: unknown): Promise<unknown> {
  const { port1, port2 } = new MessageChannel();
  try {
    const arrived = new Promise((resolve) => port2.once('message', resolve));
    port1.postMessage(value);
    return await arrived;
  } finally {
    port1.close();
  }
}

function nestedWire(depth: number): unknown {
  let wire: unknown = { message: 'innermost' };
  for (let i = 0; i < depth; i++) wire = { message: `level ${i}`, cause: wire };
  return wire;
}

function causesOf(error: Error): number {
  let count = 0;
  for (let at = error.cause; at !== undefined; at = (at as Error).cause) count++;
  return count;
}

const journeys: readonly [string, (wire: WireError) => Promise<unknown>][] = [
  ['postMessage', posted],
  ['structuredClone', async (wire) => structuredClone(wire)],
  ['JSON', async (wire) => JSON.parse(JSON.stringify(wire))],
];

for (const [name, travel] of journeys) {
  test(`class, code, details, stack and causes survive ${name}`, async () => {
    const sent = full();
    const got = fromWire(await travel(toWire(sent)));
    assert.ok(got instanceof MillraceError);
    assert.ok(hasCode(got, 'ERR_MILLRACE_STORE_FULL'));
    assert.equal(got.kind, 'capacity');
    assert.equal(got.name, sent.name);
    assert.equal(got.message, sent.message);
    assert.equal(got.stack, sent.stack);
    assert.deepEqual(got.details, sent.details);
    const cause = got.cause as Error & { code?: string };
    assert.ok(cause instanceof Error && !isMillraceError(cause));
    assert.deepEqual([cause.name, cause.message, cause.code], ['RangeError', 'disk', 'ENOSPC']);
  });
}

test('what does not survive by itself: postMessage alone strips the code', async () => {
  const got = (await posted(full())) as Error & { code?: string };
  assert.equal(got.code, undefined);
});

test('an error of the user stays an Error with its name, code and details', () => {
  const sent = Object.assign(new NonRetryableError('never'), {
    code: 'E_OWN',
    details: { order: 7 },
  });
  const got = fromWire(toWire(sent)) as Error & { code?: string; details?: unknown };
  assert.ok(got instanceof Error && !isMillraceError(got));
  assert.equal(got.name, 'NonRetryableError');
  assert.equal(got.code, 'E_OWN');
  assert.deepEqual(got.details, { order: 7 });
});

test('anything can be thrown', () => {
  const thrown: readonly [unknown, string][] = [
    [null, 'null'],
    [undefined, 'undefined'],
    ['text', 'text'],
    [42, '42'],
    [5n, '5'],
    [Symbol('s'), 'Symbol(s)'],
    [{ message: 'like an error' }, 'like an error'],
    [{ code: 'E_NO_MESSAGE' }, '[object Object]'],
    [[1, 2], '1,2'],
    [Object.create(null), 'an error that cannot be described was thrown'],
  ];
  for (const [value, message] of thrown) assert.equal(toWire(value).message, message);
});

test('an error whose fields throw tells what it can', () => {
  const shy = (name: string): Error =>
    Object.defineProperty(new Error('the message'), name, {
      get() {
        throw new Error('hands off');
      },
    });
  for (const name of ['name', 'code', 'details', 'stack', 'cause']) {
    assert.equal(toWire(shy(name)).message, 'the message', name);
  }
  assert.equal(toWire(shy('message')).name, 'Error');
});

test('a proxy that throws at every touch is still an error on the wire', () => {
  const refuse = (): never => {
    throw new Error('hands off');
  };
  const hostile = new Proxy({}, { get: refuse, has: refuse, getPrototypeOf: refuse });
  const wire = toWire(hostile);
  assert.deepEqual(wire, structuredClone(wire));
  assert.equal(wire.message, 'an error that cannot be described was thrown');
  assert.equal(toWire(new Error('outer', { cause: hostile })).message, 'outer');
});

test('a getter that answers differently each time cannot smuggle anything in', () => {
  const shifty = (): unknown => {
    let asked = 0;
    return new Proxy(
      {},
      { get: (_, key) => (key === Symbol.toPrimitive ? undefined : asked++ % 2 ? () => {} : 'ok') },
    );
  };
  for (let i = 0; i < 4; i++) structuredClone(toWire(shifty()));
});

test('a huge error is small on the wire', () => {
  let error = new Error('x'.repeat(1_000_000));
  for (let i = 0; i < 50; i++) {
    error = Object.assign(new Error('y'.repeat(1_000_000), { cause: error }), {
      name: 'n'.repeat(1_000_000),
      code: 'c'.repeat(1_000_000),
      stack: 's'.repeat(1_000_000),
      details: { small: 'd'.repeat(4_000) },
    });
  }
  const wire = toWire(error);
  assert.ok(JSON.stringify(wire).length < WIRE_CHARS_MAX);
  assert.match(wire.message, /^y+\.\.\. \(1000000 characters\)$/);
  assert.equal(causesOf(fromWire(wire)), 4);
});

test('an error that is its own cause ends', () => {
  const error = new Error('loop');
  error.cause = error;
  assert.equal(causesOf(fromWire(toWire(error))), 4);
});

test('details that are too large, or no plain data, are left out', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const strange: readonly unknown[] = [
    { big: 'x'.repeat(5_000) },
    cycle,
    { n: 5n },
    {},
    [],
    [1, 2],
    'text',
    7,
    null,
    { toJSON: () => undefined },
    { toJSON: () => 'text' },
    { toJSON: () => null },
  ];
  for (const details of strange) {
    assert.equal(toWire(Object.assign(new Error('x'), { details })).details, undefined);
  }
  // Functions and class instances arrive as what JSON makes of them.
  const details = { when: new Date(0), f() {}, list: [1] };
  assert.deepEqual(toWire(Object.assign(new Error('x'), { details })).details, {
    when: '1970-01-01T00:00:00.000Z',
    list: [1],
  });
});

test('hostile wire data makes an error, never a crash or another class', () => {
  const data: readonly unknown[] = [
    undefined,
    null,
    0,
    'text',
    [],
    [{ message: 'x' }],
    {},
    { message: 5, name: {}, code: 7, stack: [], details: 'text', cause: 0 },
    { code: 'ERR_MILLRACE_CLOSED', details: null },
    { code: 'ERR_MILLRACE_CLOSED', details: [1] },
    { code: '__proto__' },
    { code: 'constructor', message: 'x' },
    JSON.parse('{"__proto__":{"polluted":true},"details":{"__proto__":{"polluted":true}}}'),
  ];
  for (const wire of data) {
    const error = fromWire(wire);
    assert.ok(error instanceof Error);
    assert.equal(typeof error.message, 'string');
    assert.equal(typeof error.name, 'string');
    const { details = {} } = error as { details?: unknown };
    assert.ok(typeof details === 'object' && details !== null && !Array.isArray(details));
    assert.equal((error as { polluted?: unknown }).polluted, undefined);
    // Only a code of ours makes an error of ours.
    assert.equal(isMillraceError(error), hasCode(error, 'ERR_MILLRACE_CLOSED'));
  }
  assert.equal(({} as { polluted?: unknown }).polluted, undefined);
});

test('causes without end are cut, on the wire as well', () => {
  assert.equal(causesOf(fromWire(nestedWire(100_000))), 4);
  const cycle: Record<string, unknown> = { message: 'loop' };
  cycle.cause = cycle;
  assert.equal(causesOf(fromWire(structuredClone(cycle))), 4);
});

test('any value goes onto the wire, and any wire data comes off it', () => {
  fc.assert(
    fc.property(
      fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }),
      (value) => {
        const wire = toWire(value);
        assert.ok(JSON.stringify(wire).length < WIRE_CHARS_MAX);
        assert.deepEqual(JSON.parse(JSON.stringify(wire)), wire);
        assert.ok(fromWire(wire) instanceof Error);
        assert.ok(fromWire(value) instanceof Error);
      },
    ),
    { numRuns: 500 },
  );
});

test('what came off the wire goes onto it again unchanged', () => {
  const wire = toWire(full());
  assert.deepEqual(toWire(fromWire(wire)), wire);
});
