/**
 * CPU time, which other processes on the machine disturb less than they disturb elapsed time.
 */
import { readFileSync } from 'node:fs';

/** CPU time since the process began, in microseconds. */
export interface CpuTime {
  /** All threads: workers, V8's and libuv's helpers, stores' writers. */
  readonly processUs: number;
  /** The main thread; NaN where the system does not tell. */
  readonly mainThreadUs: number;
}

export function cpuTime(): CpuTime {
  const { user, system } = process.cpuUsage();
  return { processUs: user + system, mainThreadUs: mainThreadUs() };
}

/** Linux: nanoseconds on a CPU are the first number of the thread's schedstat; the main thread's id is the process's. */
function mainThreadUs(): number {
  try {
    const text = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1');
    return Number(text.split(' ')[0]) / 1000;
  } catch {
    return Number.NaN;
  }
}
