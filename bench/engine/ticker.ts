/**
 * A thread that says when the next task arrives, at moments fixed in advance.
 *
 * It stands for the network: the main thread sleeps until it is told, as a service does, and what it is late by is
 * part of the latency. A timer of the main thread itself would be up to a millisecond late, and hide that much.
 */
import { parentPort, workerData } from 'node:worker_threads';

export interface TickerData {
  /** On `process.hrtime`, which all threads share, in milliseconds. */
  readonly startAtMs: number;
  readonly periodMs: number;
  readonly count: number;
}

const { startAtMs, periodMs, count } = workerData as TickerData;
const nothing = new Int32Array(new SharedArrayBuffer(4));

for (let tick = 0; tick < count; tick++) {
  const dueAtMs = startAtMs + tick * periodMs;
  for (;;) {
    const leftMs = dueAtMs - Number(process.hrtime.bigint()) / 1e6;
    if (leftMs <= 0) break;
    Atomics.wait(nothing, 0, 0, leftMs);
  }
  parentPort?.postMessage(tick);
}
