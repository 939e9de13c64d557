/**
 * The entry of the sentinel's thread; `sentinel.ts` starts it. Loads the transport and the loop, nothing else.
 *
 * What fails here unforeseen ends the thread, and the main thread starts another: leases outlive both.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Clock } from '../../core/clock.js';
import { invariant } from '../../core/errors.js';
import { parseEndpoint } from './endpoint.js';
import { Http2Transport } from './http2-transport.js';
import { processMs, type SentinelConnection, type ToSentinel } from './sentinel-protocol.js';
import { SentinelWorker } from './sentinel-worker.js';
import { TlsIdentity } from './tls-identity.js';

const STEP_MS_MAX = 2 ** 31 - 1;

/** May be a millisecond early, which is nothing here. Delays that Node does not know ("for ever") go in steps. */
const clock: Clock = {
  wallMs: () => Date.now(),
  monoMs: processMs,
  wakeIn(delayMs, wake) {
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      const stepMs = Math.min(STEP_MS_MAX, Math.max(1, leftMs));
      timer = setTimeout(() => (stepMs < leftMs ? arm(leftMs - stepMs) : wake()), stepMs);
    };
    arm(delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  wakeSoon(wake) {
    const immediate = setImmediate(wake);
    return { cancel: () => clearImmediate(immediate) };
  },
};

const port = parentPort;
invariant(port !== null, 'sentinel-outside-worker');
const { endpoints, tls, auth } = workerData as SentinelConnection;
const transport = new Http2Transport({
  clock,
  endpoints: endpoints.map((endpoint) => parseEndpoint(endpoint, tls !== undefined)),
  tls: tls && new TlsIdentity(tls),
  auth,
  followMembers: false,
  sharesConnections: true,
});
const sentinel = new SentinelWorker(transport, clock, (message) => port.postMessage(message));

port.on('message', (message: ToSentinel) => {
  if (message.type !== 'close') return sentinel.take(message);
  // Nothing keeps the thread once its port is closed.
  void sentinel.close().finally(() => port.close());
});
