/** How much of the machine the process uses: CPU time over wall time over cores. */
import { availableParallelism } from 'node:os';

/** @returns a function that gives the share of all cores used since its last call, 0 to 1 */
export function cpuShareMeter(): () => number {
  let last = process.cpuUsage();
  let lastAtMs = performance.now();
  return () => {
    const { user, system } = process.cpuUsage(last);
    const elapsedMs = performance.now() - lastAtMs;
    last = process.cpuUsage();
    lastAtMs = performance.now();
    return Math.min(1, (user + system) / 1_000 / Math.max(1, elapsedMs) / availableParallelism());
  };
}
