/** The task that a fleet runs while its nodes are killed: it says to its process that it ran. */
import { EventEmitter } from 'node:events';
import { defineTask, defineTasks } from '../../src/index.js';

/** Of this process: `ran` with the task's number. */
export const runs: EventEmitter<{ ran: [number] }> = new EventEmitter();

export const note = defineTask({
  name: 'bench.note',
  exec: 'inline',
  run(number: number) {
    runs.emit('ran', number);
  },
});

export default defineTasks({ note });
