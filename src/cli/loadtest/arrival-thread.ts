/**
 * The entry of a thread that says when tasks arrive, at moments fixed beforehand; `arrivals.ts` starts it.
 *
 * It stands for the network: the thread that is measured sleeps until it is told, as a service does. A timer of that thread
 * itself is up to a millisecond late, which would count as latency of whatever is measured. A wait on shared memory is not.
 *
 *   main thread                              this thread
 *               <------------- ready: 0 ---- |
 *   | ---- when the first one arrives -----> |
 *               <---- how many have come --- |    again whenever one comes, at most once in `gapMs`
 */
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '../../core/errors.js';

export interface ArrivalPace {
  readonly perMs: number;
  readonly total: number;
  readonly gapMs: number;
}

const port = parentPort;
invariant(port !== null, 'arrivals-outside-worker');
const { perMs, total, gapMs } = workerData as ArrivalPace;
const nothing = new Int32Array(new SharedArrayBuffer(4));

port.once('message', (startMs: number) => {
  let mayTellMs = startMs;
  for (let told = 0; told < total; ) {
    waitUntil(Math.max(startMs + told / perMs, mayTellMs));
    const nowMs = machineNowMs();
    // At least the one that was waited for, whatever its moment is rounded to.
    told = Math.min(total, Math.max(told, Math.floor((nowMs - startMs) * perMs)) + 1);
    port.postMessage(told);
    mayTellMs = nowMs + gapMs;
  }
});
port.postMessage(0);

function waitUntil(momentMs: number): void {
  for (;;) {
    const leftMs = momentMs - machineNowMs();
    if (leftMs <= 0) return;
    Atomics.wait(nothing, 0, 0, leftMs);
  }
}

/** CLOCK_MONOTONIC itself: what arrives must have arrived on the clock of the main thread too. */
function machineNowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
