import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

const WORKER = new URL('../timing/queue-worker.js', import.meta.url);
const WIDTH = 8;
const LOADS = 1000;
const TERMINATIONS = 400;

/** What the process holds when `count` workers have come and gone, `WIDTH` at a time. */
async function rssAfter(count: number, one: () => Promise<void>): Promise<number> {
  let left = count;
  const several = async (): Promise<void> => {
    while (left-- > 0) await one();
  };
  await Promise.all(Array.from({ length: WIDTH }, several));
  return process.memoryUsage.rss();
}

async function load(): Promise<void> {
  const worker = new Worker(WORKER, { workerData: { forever: false } });
  const exited = once(worker, 'exit');
  const [fired] = await once(worker, 'message');
  assert.equal(fired, 1500);
  assert.deepEqual(await exited, [0]);
}

/** Ended after a time that is different for each: in the middle of whatever it does then. */
async function terminate(round: number): Promise<void> {
  const worker = new Worker(WORKER, { workerData: { forever: true } });
  await once(worker, 'message');
  for (let turns = round % 40; turns > 0; turns--) await new Promise(setImmediate);
  assert.equal(await worker.terminate(), 1);
}

test('8 workers at a time load and unload the native core a thousand times, and leave nothing behind', async () => {
  const early = await rssAfter(LOADS / 4, load);
  const late = await rssAfter((LOADS * 3) / 4, load);
  const growth = (late - early) / ((LOADS * 3) / 4);
  assert.ok(growth < 50_000, `${growth} bytes stay of each worker`);
});

test('workers can be terminated in the middle of calls, again and again', async () => {
  let round = 0;
  const one = (): Promise<void> => terminate(round++);
  const early = await rssAfter(TERMINATIONS / 4, one);
  const late = await rssAfter((TERMINATIONS * 3) / 4, one);
  const growth = (late - early) / ((TERMINATIONS * 3) / 4);
  assert.ok(growth < 100_000, `${growth} bytes stay of each worker`);
});
