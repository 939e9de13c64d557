import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClosedLoop } from '../../../src/cli/loadtest/closed-loop.js';

/** Tasks that end when the test says so. */
function setup({ inFlight }: { readonly inFlight: number }) {
  const begun: {
    readonly task: string;
    readonly end: () => void;
    readonly fail: (cause: Error) => void;
  }[] = [];
  const loop = new ClosedLoop(
    inFlight,
    (n, submitter) =>
      new Promise<void>((end, fail) => {
        begun.push({ task: `${submitter}:${n}`, end, fail });
      }),
  );
  return { begun, loop, tasks: () => begun.map(({ task }) => task) };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a submitter begins its next task when its last one has ended, and others do not wait for it', async () => {
  const { begun, loop, tasks } = setup({ inFlight: 2 });
  assert.deepEqual(tasks(), ['0:0', '1:0']);
  begun[0]!.end();
  await turn();
  assert.deepEqual(tasks(), ['0:0', '1:0', '0:1']);
  begun[2]!.end();
  await turn();
  assert.deepEqual(tasks(), ['0:0', '1:0', '0:1', '0:2']);
  assert.equal(loop.ended, 2);
});

test('after stop nothing begins, and what runs is waited for', async () => {
  const { begun, loop } = setup({ inFlight: 2 });
  let isStopped = false;
  const stopped = loop.stop().then(() => {
    isStopped = true;
  });
  begun[0]!.end();
  await turn();
  assert.equal(isStopped, false);
  begun[1]!.end();
  await stopped;
  assert.equal(begun.length, 2);
  assert.equal(loop.ended, 2);
});

test('a task that fails ends the loop, and whoever waits hears of it at once', async () => {
  const { begun, loop } = setup({ inFlight: 2 });
  const waiting = loop.goOn(60_000);
  begun[0]!.fail(new Error('broken'));
  await assert.rejects(waiting, /broken/);
  begun[1]!.end();
  await assert.rejects(loop.stop(), /broken/);
  assert.equal(begun.length, 2);
});

test('a signal ends the waiting and not the loop', async () => {
  const { begun, loop } = setup({ inFlight: 1 });
  const signal = AbortSignal.abort();
  await loop.goOn(60_000, signal);
  begun[0]!.end();
  await turn();
  assert.equal(begun.length, 2);
});
