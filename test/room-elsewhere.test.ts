/** Producers that run nothing themselves: they go as fast as those who run their tasks have room, on virtual time. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { MillraceError } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { cluster } from '../src/testing/index.js';

const contract = defineTask<number, void>({ name: 'held', exec: 'inline' });
const contracts = defineTasks({ contract });
/** Room at each node that runs them. */
const ROOM = 1_000;
/** How old what is known of a node may be, and a few commits. */
const A_BEAT = '6s';

async function setup(t: TestContext, workers: number, onFull: 'wait' | 'reject' = 'wait') {
  const gates: (() => void)[] = [];
  let isOpen = false;
  const held = contract.implement({
    run: () => (isOpen ? undefined : new Promise<void>((release) => gates.push(release))),
  });
  const world = await cluster(workers, {
    tasks: defineTasks({ held }),
    runtime: { queue: { maxTasks: ROOM, onFull }, shutdown: { soft: 0, hard: 0 } },
  });
  const producer = await world.join({ tasks: contracts });
  t.after(() => world.close());
  // Everybody knows of everybody.
  await world.advance(A_BEAT);
  await world.run(producer.runtime.submit(contract, -1));
  await world.advance(A_BEAT);
  return {
    world,
    producer: producer.runtime,
    letGo: () => {
      isOpen = true;
      for (const release of gates.splice(0)) release();
    },
    open: () =>
      world.nodes.slice(0, workers).reduce((sum, { runtime }) => sum + runtime.stats().open, 0),
  };
}

function counted(count: number) {
  const source = { read: 0, items };
  function* items(): Generator<number> {
    while (source.read < count) yield source.read++;
  }
  return source;
}

test('an endless source is read no further than the nodes that run its tasks have room', async (t) => {
  const { world, producer, letGo, open } = await setup(t, 2);
  const source = counted(20_000);
  const call = producer.submitMany(contract, source.items());
  await world.advance('1m');
  const before = source.read;
  assert.ok(before >= 2 * ROOM, `${before} were read`);
  await world.advance('5m');
  assert.equal(source.read, before);
  // What is under way when a node is heard to be full.
  assert.ok(open() < 4 * ROOM, `${open()} are open`);
  letGo();
  const { accepted } = await world.run(call, { within: '1h' });
  assert.equal(accepted, 20_000);
});

test('single submits wait as well, or are refused when told so, and trySubmit says no', async (t) => {
  const { world, producer, letGo } = await setup(t, 1);
  const filling = producer.submitMany(contract, counted(10 * ROOM).items());
  await world.advance('1m');
  assert.equal(await world.run(producer.trySubmit(contract, 1)), undefined);
  let isAccepted = false;
  const one = producer.submit(contract, 1).then(() => {
    isAccepted = true;
  });
  await world.advance('1m');
  assert.equal(isAccepted, false);
  letGo();
  await world.run(Promise.all([one, filling]), { within: '1h' });

  const strict = await setup(t, 1, 'reject');
  let accepted = 0;
  const flood = async (): Promise<void> => {
    for (; accepted < 10 * ROOM; accepted++) await strict.producer.submit(contract, accepted);
  };
  await assert.rejects(strict.world.run(flood), (error: MillraceError) => {
    assert.equal(error.code, 'ERR_MILLRACE_QUEUE_FULL');
    assert.equal(error.details.reason, 'elsewhere');
    return true;
  });
  assert.ok(accepted >= ROOM && accepted < 4 * ROOM, `${accepted} were accepted`);
  strict.letGo();
});

test('where nobody runs them, tasks are stored: nobody is known to be full', async (t) => {
  const { world, producer } = await setup(t, 0);
  const { accepted } = await world.run(
    producer.submitMany(contract, counted(3 * ROOM).items(), {}),
  );
  assert.equal(accepted, 3 * ROOM);
});
