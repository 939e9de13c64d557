/** What `retry` and `redrive` have in common: they ask for some tasks at a time, and count what became of them. */
import type { Control, RedriveOutcome } from '../admin/control.js';
import type { TaskInspection } from '../engine/inspection.js';
import { answered } from './answered.js';
import { taskLines } from './task-table.js';
import { plural } from './units.js';

/** Letters and commits are shared by what is asked for together. */
export const AT_ONCE = 256;

export type RedriveTally = Record<RedriveOutcome, number>;

export function newTally(): RedriveTally {
  return { redriven: 0, open: 0, ended: 0, gone: 0 };
}

/** @param waitSeconds - for the answer @throws as {@link answered} */
export async function redriveSome(
  control: Control,
  ids: readonly string[],
  tally: RedriveTally,
  waitSeconds: number,
): Promise<void> {
  for (const outcome of await answered(waitSeconds, control.redrive(ids))) tally[outcome]++;
}

export function printTally(tally: RedriveTally, isJson: boolean): void {
  const { redriven, open, ended, gone } = tally;
  process.stdout.write(
    isJson
      ? `${JSON.stringify(tally)}\n`
      : `${plural(redriven, 'task')} will run again, ${open} waited or ran already, ${ended} had ended otherwise, ${gone} unknown\n`,
  );
}

/** Of a dry run. */
export function printChosen(tasks: readonly TaskInspection[], isJson: boolean): void {
  if (isJson) process.stdout.write(`${JSON.stringify({ tasks })}\n`);
  else {
    process.stdout.write(taskLines(tasks, Date.now()));
    process.stderr.write(`${plural(tasks.length, 'task')} would run again\n`);
  }
}
