/**
 * What import.ts does with each order. Worker threads load this module too.
 */
import { defineTask, defineTasks, NonRetryableError } from 'millrace';

export interface Order {
  readonly number: string;
  readonly cents: number[];
}

export const bookOrder = defineTask({
  name: 'orders.book',
  retry: { attempts: 5, min: '100ms' },
  run(order: Order): { total: number } {
    // No retry makes a wrong order right.
    if (order.cents.some((cents) => cents < 0)) {
      throw new NonRetryableError(`order ${order.number} has a negative amount`);
    }
    return { total: order.cents.reduce((sum, cents) => sum + cents, 0) };
  },
});

export default defineTasks({ bookOrder });
