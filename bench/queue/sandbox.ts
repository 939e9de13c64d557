/** The processor that BullMQ loads into worker threads. */
import { Ledger } from './ledger.js';
import type { Item } from './queue.js';

export default async function noop(job: { readonly data: Item }): Promise<void> {
  Ledger.inherited().runInThread(job.data.id);
}
