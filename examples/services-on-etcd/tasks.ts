/**
 * How it is done: this file is in the worker's service only.
 */
import { defineTasks } from 'millrace';
import { invoice } from './contracts.js';

export default defineTasks({
  invoice: invoice.implement({
    run: ({ number, cents }) => ({ number, total: cents.reduce((sum, price) => sum + price, 0) }),
  }),
});
