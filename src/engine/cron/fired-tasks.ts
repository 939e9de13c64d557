/**
 * FiredTasks: the tasks of cron's fires, as the engine knows them.
 */
import { hasCode } from '../../core/errors.js';
import { requireTaskId, type TaskId } from '../../core/ids.js';
import type { Room } from '../room.js';
import type { Accepted, NewTask } from '../submission.js';
import type { Submissions } from '../submissions.js';
import { NOT_HELD, type TaskDesk, type TaskPlace } from '../task-desk.js';
import type { CronTasks } from './cron.js';

export class FiredTasks implements CronTasks {
  readonly #submissions: Submissions;
  readonly #desk: TaskDesk;
  readonly #room: Room;

  constructor(submissions: Submissions, desk: TaskDesk, room: Room) {
    this.#submissions = submissions;
    this.#desk = desk;
    this.#room = room;
  }

  submit(task: NewTask): Promise<Accepted> {
    const { payloadBytes } = task;
    this.#room.occupy(payloadBytes, 1);
    return new Promise((resolve, reject) => {
      this.#submissions.submit(task, resolve, (cause) => {
        this.#room.release(payloadBytes, 1);
        reject(cause);
      });
    });
  }

  async isOpen(task: TaskId): Promise<boolean> {
    const status = await unlessGone(this.#desk.status(placeOf(task)));
    return status === 'pending' || status === 'running';
  }

  async untilEnded(task: TaskId): Promise<void> {
    await unlessGone(this.#desk.ended(placeOf(task)));
  }

  async cancel(task: TaskId, reason: string): Promise<void> {
    await unlessGone(this.#desk.cancel(placeOf(task), reason));
  }
}

function placeOf(task: TaskId): TaskPlace {
  return { ...requireTaskId(task), task: NOT_HELD };
}

/** @returns undefined for a task that is not known any more */
function unlessGone<T>(known: Promise<T>): Promise<T | undefined> {
  return known.catch((cause: unknown) => {
    if (hasCode(cause, 'ERR_MILLRACE_TASK_GONE')) return undefined;
    throw cause;
  });
}
