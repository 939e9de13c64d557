/**
 * Tasks as people read them: a line each, or everything about one.
 */
import { roughMs } from '../core/durations.js';
import type { TaskInspection } from '../engine/inspection.js';
import { table } from './table.js';
import { bytes } from './units.js';

/** One line per task under a heading. @param nowMs - epoch */
export function taskLines(tasks: readonly TaskInspection[], nowMs: number): string {
  if (tasks.length === 0) return '';
  return table([
    ['ID', 'STATE', 'TASK', 'TENANT', 'TRY', 'WHEN'],
    ...tasks.map((task) => [
      task.id,
      task.status,
      task.task ?? '-',
      task.tenant ?? '-',
      String(task.attempt),
      whenOf(task, nowMs),
    ]),
  ]);
}

/** Everything about one task, a fact a line. @param nowMs - epoch */
export function taskFacts(task: TaskInspection, nowMs: number): string {
  const at = (ms: number | undefined): string | undefined =>
    ms === undefined ? undefined : `${new Date(ms).toISOString()}  (${agoOf(ms, nowMs)})`;
  const facts: readonly (readonly [string, string | undefined])[] = [
    ['id', task.id],
    ['state', task.deadLetter ? `${task.status} (dead letter)` : task.status],
    ['task', task.task],
    ['parent', task.parent],
    ['tenant', task.tenant],
    ['queue', task.queue],
    ['shard', String(task.shard)],
    ['priority', task.priority === undefined ? undefined : String(task.priority)],
    ['attempts', String(task.attempt)],
    ['losses', task.losses === 0 ? undefined : String(task.losses)],
    ['redriven', task.version === 0 ? undefined : `${task.version} times`],
    ['submitted', at(task.submittedAtMs)],
    ['due', at(task.dueAtMs)],
    ['expires', at(task.expiresAtMs)],
    ['changed', at(task.changedAtMs)],
    ['executor', task.executor],
    ['input', task.inputBytes === undefined ? undefined : bytes(task.inputBytes)],
    ['result', task.resultBytes === undefined ? undefined : resultOf(task)],
    ['error', task.error === undefined ? undefined : errorText(task.error)],
  ];
  return facts
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.padEnd(10)}${value}\n`)
    .join('');
}

const RESULT_CHARS_MAX = 200;

function resultOf({ result, resultBytes = 0 }: TaskInspection): string {
  if (result === undefined) return 'nothing';
  const text = JSON.stringify(result);
  const shown = text.length > RESULT_CHARS_MAX ? `${text.slice(0, RESULT_CHARS_MAX)}...` : text;
  return `${bytes(resultBytes)}  ${shown}`;
}

/** The chain of messages of an error that was stored. */
function errorText(error: unknown): string {
  const { message, code, cause } = (error ?? {}) as Readonly<Record<string, unknown>>;
  const own = `${String(message ?? JSON.stringify(error))}${code === undefined ? '' : ` [${String(code)}]`}`;
  return cause === undefined ? own : `${own}\n${''.padEnd(10)}caused by ${errorText(cause)}`;
}

function whenOf(task: TaskInspection, nowMs: number): string {
  if (task.status !== 'pending') {
    return task.changedAtMs === undefined ? '' : agoOf(task.changedAtMs, nowMs);
  }
  const dueAtMs = task.dueAtMs ?? nowMs;
  return dueAtMs > nowMs ? agoOf(dueAtMs, nowMs) : `due ${roughMs(nowMs - dueAtMs)}`;
}

function agoOf(ms: number, nowMs: number): string {
  return ms > nowMs ? `in ${roughMs(ms - nowMs)}` : `${roughMs(nowMs - ms)} ago`;
}
