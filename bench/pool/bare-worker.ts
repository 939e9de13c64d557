/** A thread with nothing around it: one message in, one out. An array is a batch. */
import { parentPort } from 'node:worker_threads';
import { handle, handleAll, type Input } from './tasks.js';

interface Message {
  readonly number: number;
  readonly data: Input | readonly Input[];
}

parentPort?.on('message', ({ number, data }: Message) => {
  const result = Array.isArray(data) ? handleAll(data) : handle(data as Input);
  parentPort?.postMessage({ number, result });
});
