/** Runs in a worker: loads the native core and uses it; forever, if told so, until it is terminated. */
import { parentPort, workerData } from 'node:worker_threads';
import { createTimers, TimerQueue } from '../../src/timing/index.js';

const { forever } = workerData as { forever: boolean };

function use(round: number): number {
  const queue = new TimerQueue({ startMs: round });
  const out = new Uint32Array(64);
  const handles = Array.from({ length: 3000 }, (_, i) => queue.schedule(round + (i % 5000), i));
  for (let i = 0; i < handles.length; i += 2) queue.cancel(handles[i]!);
  let fired = 0;
  for (let now = round; queue.size > 0; now += 100) {
    for (let count = out.length; count === out.length; fired += count)
      count = queue.advance(now, out);
  }
  // Every other queue is left to the end of the environment.
  if (round % 2 === 0) queue.close();
  return fired;
}

// Left pending to the end of the environment, which it does not hold up.
const timers = createTimers({ keepAlive: false });
for (let i = 0; i < 100; i++) timers.setTimer(i * 10, () => timers.setTimer(1, () => {}));

parentPort?.postMessage(use(0));
for (let round = 1; forever; round++) use(round);
