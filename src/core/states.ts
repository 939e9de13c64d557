/**
 * The states of a task, and the only steps between them.
 *
 *   PENDING --claim--> RUNNING --settle--> COMPLETED | FAILED | CANCELLED | EXPIRED
 *      ^                  |
 *      `--- retry, snooze, loss ---'          a pending task may also be cancelled or expire
 *
 * A state changes by compare-and-set only; losing a race is a result, not an error. Ended states absorb.
 */

export const TaskState = {
  PENDING: 0,
  RUNNING: 1,
  COMPLETED: 2,
  FAILED: 3,
  CANCELLED: 4,
  EXPIRED: 5,
} as const;
export type TaskState = (typeof TaskState)[keyof typeof TaskState];

/** States as users see them. */
export type TaskStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled' | 'expired';

/** By state. */
export const STATUSES: readonly TaskStatus[] = [
  'pending',
  'running',
  'completed',
  'failed',
  'cancelled',
  'expired',
];

/** How a task ended. */
export type Settlement<Output> =
  | { readonly status: 'completed'; readonly value: Output }
  | { readonly status: 'failed' | 'cancelled' | 'expired'; readonly error: Error };

const NEXT: Readonly<Record<TaskState, readonly TaskState[]>> = {
  [TaskState.PENDING]: [TaskState.RUNNING, TaskState.CANCELLED, TaskState.EXPIRED],
  [TaskState.RUNNING]: [
    TaskState.PENDING,
    TaskState.COMPLETED,
    TaskState.FAILED,
    TaskState.CANCELLED,
  ],
  [TaskState.COMPLETED]: [],
  [TaskState.FAILED]: [],
  [TaskState.CANCELLED]: [],
  [TaskState.EXPIRED]: [],
};

export function statusOf(state: TaskState): TaskStatus {
  return STATUSES[state]!;
}

export function isEnded(state: TaskState): boolean {
  return state >= TaskState.COMPLETED;
}

/** Whether a stored byte is a state at all. */
export function isTaskState(value: number): value is TaskState {
  return Number.isInteger(value) && value >= TaskState.PENDING && value <= TaskState.EXPIRED;
}

export function canMove(from: TaskState, to: TaskState): boolean {
  return NEXT[from].includes(to);
}

/** How one execution ended, as its thread reports it (u16 in a result record). */
export const Outcome = {
  /** The handler returned; the bytes are its value. */
  COMPLETED: 0,
  /** The handler threw; the bytes are the error. The retry policy decides. */
  FAILED: 1,
  /** The handler threw NonRetryableError, or what it returned cannot be encoded. */
  FAILED_FOR_GOOD: 2,
  /** The handler asked to run again later; the bytes are the delay in ms. No attempt is spent. */
  SNOOZED: 3,
  /** The handler, or somebody through its signal, gave the task up; the bytes are the reason. */
  CANCELLED: 4,
  /** The handler was never called: its batch ended first. No attempt is spent. */
  NOT_STARTED: 5,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

export function isOutcome(value: number): value is Outcome {
  return Number.isInteger(value) && value >= Outcome.COMPLETED && value <= Outcome.NOT_STARTED;
}
