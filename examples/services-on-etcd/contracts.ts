/**
 * What producers and workers agree on: the tasks' names, inputs and policies, and no handler. Both services have this file.
 */
import { defineTask } from 'millrace';

export interface Order {
  readonly number: string;
  readonly cents: readonly number[];
}

export const invoice = defineTask<Order, { readonly number: string; readonly total: number }>({
  name: 'order.invoice',
  queue: 'orders',
  retry: { attempts: 5, min: '1s' },
});
