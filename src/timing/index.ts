/** millrace/timing: the native timer core by itself. */
export { TimerQueue, type TimerQueueOptions, type TimerQueueStats } from './timer-queue.js';
export { createTimers, type TimerHandle, type Timers, type TimersOptions } from './timers.js';
