/** The thread of `inThread`: calls the function, and sends what it comes to. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ThreadCall } from './in-thread.js';

const { module, name, args } = workerData as ThreadCall;
const functions = (await import(module)) as Record<string, (...args: unknown[]) => unknown>;
parentPort!.postMessage(await functions[name]!(...args));
