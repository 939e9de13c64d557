/** millrace/timing: the native core by itself: when things are due, and who goes first. */
export { type PushOptions, ReadyQueue, type ReadyQueueOptions } from './ready-queue.js';
export { TimerQueue, type TimerQueueOptions, type TimerQueueStats } from './timer-queue.js';
export { createTimers, type TimerHandle, type Timers, type TimersOptions } from './timers.js';
