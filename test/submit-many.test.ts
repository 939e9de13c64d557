import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode, type MillraceError } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import type { Runtime } from '../src/runtime.js';
import { testBed, within } from './support/runtime.js';

const twice = defineTask({
  name: 'twice',
  exec: 'inline',
  retry: { attempts: 1 },
  run: (n: number) => {
    if (n === 13) throw new Error('unlucky');
    return 2 * n;
  },
});
const even = defineTask({
  name: 'even',
  exec: 'inline',
  input: {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value: unknown) =>
        Number(value) % 2 === 0 ? { value: value as number } : { issues: [{ message: 'odd' }] },
    },
  },
  run: () => {},
});

function* upTo(count: number): Generator<number> {
  for (let n = 0; n < count; n++) yield n;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function setup(options: Parameters<ReturnType<typeof testBed>['start']>[0] = {}) {
  const bed = testBed(defineTasks({ twice, even }));
  const runtime: Runtime = await bed.start(options);
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  return { ...bed, bed, runtime, soon, close: () => soon(runtime.close()) };
}

describe('submitMany', () => {
  test('runs each item once, and tells how each ended, in order', async () => {
    const { runtime, soon, close } = await setup();
    const many = await soon(runtime.submitMany(twice, upTo(1_000)));
    assert.deepEqual([many.accepted, many.deduplicated], [1_000, 0]);
    const ids = [...many.ids()];
    assert.equal(new Set(ids).size, 1_000);
    const ends = await soon(collect(many.results()));
    assert.deepEqual(
      ends.map(({ id }) => id),
      ids,
    );
    for (const [n, end] of ends.entries()) {
      if (n === 13)
        assert.ok(end.status === 'failed' && hasCode(end.error, 'ERR_MILLRACE_TASK_FAILED'));
      else assert.deepEqual([end.status, 'value' in end && end.value], ['completed', 2 * n]);
    }
    assert.equal(runtime.stats().openBytes, 0);
    await close();
  });

  test('a flood shares few transactions and leaves no object per task behind', async () => {
    const { bed, runtime, soon, close } = await setup();
    const before = bed.faults.sent.length;
    await soon(runtime.submitMany(twice, upTo(10_000), { delay: '1h' }));
    const sent = bed.faults.sent.length - before;
    assert.ok(sent <= 12, `${sent} transactions`);
    assert.equal(runtime.stats().delayed, 10_000);
    await close();
  });

  test('options hold for all of them', async () => {
    const { clock, runtime, soon, close } = await setup();
    const many = await soon(runtime.submitMany(twice, [1, 2], { delay: '10s', tenant: 'acme' }));
    await clock.advance(9_000);
    assert.equal(runtime.stats().delayed, 2);
    await clock.advance(2_000);
    assert.equal((await soon(collect(many.results()))).length, 2);
    await close();
  });

  test('an async source that pauses holds nothing up that it gave before', async () => {
    const { runtime, soon, close } = await setup();
    let goOn = (): void => {};
    const paused = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const source = async function* () {
      yield 1;
      yield 2;
      await paused;
      yield 3;
    };
    const call = runtime.submitMany(twice, source());
    const drained = soon(runtime.drain());
    await drained;
    goOn();
    assert.equal((await soon(call)).accepted, 3);
    await close();
  });

  test('a source is read no faster than there is room', async () => {
    const { clock, runtime, soon, close } = await setup({ queue: { maxTasks: 512 } });
    let read = 0;
    const source = function* () {
      for (const n of upTo(5_000)) {
        read++;
        yield n;
      }
    };
    await soon(runtime.submitMany(twice, upTo(256), { delay: '10s' }));
    const call = runtime.submitMany(twice, source(), { delay: '10s' });
    await clock.advance(1_000);
    assert.ok(read <= 3 * 256, `${read} were read`);
    // Each is due ten seconds after it was read.
    assert.equal((await within(clock, 600_000, call)).accepted, 5_000);
    await close();
  });

  test('without room it rejects when told so, and says how far it came', async () => {
    const { runtime, soon, close } = await setup({ queue: { maxTasks: 600, onFull: 'reject' } });
    await assert.rejects(
      soon(runtime.submitMany(twice, upTo(5_000), { delay: '10s' })),
      (error: MillraceError) => {
        assert.equal(error.code, 'ERR_MILLRACE_QUEUE_FULL');
        assert.equal(error.details.accepted, 512);
        return true;
      },
    );
    assert.equal(runtime.stats().open, 512);
    await close();
  });

  test('an item that cannot be submitted ends the call; the error names it, what came before stays', async () => {
    const { runtime, soon, close } = await setup();
    await assert.rejects(soon(runtime.submitMany(even, [0, 2, 3, 4])), (error: MillraceError) => {
      assert.equal(error.code, 'ERR_MILLRACE_INVALID_INPUT');
      assert.equal(error.details.index, 2);
      assert.equal(error.details.accepted, 0);
      return true;
    });
    const circular: { self?: unknown } = {};
    circular.self = circular;
    await assert.rejects(soon(runtime.submitMany('twice', [1, circular])), (error) =>
      hasCode(error, 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE'),
    );
    await close();
  });

  test('keys: each item is a task of its own, once', async () => {
    const { runtime, soon, close } = await setup();
    const key = (n: number): string => `key ${n % 10}`;
    const many = await soon(
      runtime.submitMany(twice, upTo(30), { idempotencyKey: key, delay: '1s' }),
    );
    assert.deepEqual([many.accepted, many.deduplicated], [10, 20]);
    assert.equal(new Set(many.ids()).size, 10);
    assert.equal(runtime.stats().open, 10);
    await close();
  });

  test('nothing of nothing; and not after close', async () => {
    const { runtime, soon, close } = await setup();
    const none = await soon(runtime.submitMany(twice, []));
    assert.deepEqual([none.accepted, [...none.ids()]], [0, []]);
    assert.deepEqual(await soon(collect(none.results())), []);
    await close();
    await assert.rejects(runtime.submitMany(twice, [1]), (error) =>
      hasCode(error, 'ERR_MILLRACE_CLOSED'),
    );
  });

  test('an aborted signal ends it between two items, and closes the source', async () => {
    const { runtime, soon, close } = await setup();
    const stop = new AbortController();
    let isClosed = false;
    const source = async function* () {
      try {
        for (const n of upTo(1_000)) {
          if (n === 3) stop.abort(new Error('enough'));
          yield n;
        }
      } finally {
        isClosed = true;
      }
    };
    await assert.rejects(
      soon(runtime.submitMany(twice, source(), { signal: stop.signal })),
      /enough/,
    );
    assert.ok(isClosed);
    await close();
  });

  test('refuses what is no iterable, and options that do not exist', async () => {
    const { runtime, soon, close } = await setup();
    for (const items of [undefined, null, 7] as never[]) {
      await assert.rejects(soon(runtime.submitMany(twice, items)), (error) =>
        hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
      );
    }
    const wrong = { idempotencyKey: 'one for all' } as never;
    await assert.rejects(soon(runtime.submitMany(twice, [1], wrong)), (error) =>
      hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
    );
    await close();
  });
});
