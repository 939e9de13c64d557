/** The task of the bench, as millrace's threads load it. */
import { defineTask, defineTasks } from '../../src/index.js';

export const noop = defineTask({ name: 'bench.noop', run: () => undefined });

export default defineTasks({ noop });
