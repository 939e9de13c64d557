/**
 * What the nodes of a test's fleet run. Each execution leaves lines in a file that all processes append to: effects as
 * they happen outside, whatever the store says of them.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  defineTask,
  defineTasks,
  type ExecutionContext,
  type TaskModule,
} from '../../../src/index.js';

export interface WorkInput {
  /** The file of effects. */
  readonly effects: string;
  /** Names the task in it. */
  readonly name: string;
  /** How long it takes. */
  readonly ms: number;
}

/** One line of the file of effects. */
export interface Effect {
  readonly kind: 'begin' | 'end';
  readonly name: string;
  readonly task: string;
  readonly attempt: number;
  /** In decimal: JSON knows no bigints. */
  readonly token: string;
  readonly pid: number;
  /** Wall clock of the machine that all processes are on; epoch ms. */
  readonly atMs: number;
}

/** What a result says of the execution it comes from. */
export interface WorkResult {
  readonly name: string;
  readonly pid: number;
  /** In decimal. */
  readonly token: string;
}

export function effectsIn(file: string): Effect[] {
  // Nothing has run before somebody makes it.
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Effect);
}

/** One write with O_APPEND: lines of several processes do not mix. */
function note(kind: Effect['kind'], { effects, name }: WorkInput, ctx: ExecutionContext): void {
  const { taskId: task, attempt, token } = ctx.execution;
  const effect: Effect = {
    kind,
    name,
    task,
    attempt,
    token: `${token}`,
    pid: process.pid,
    atMs: performance.timeOrigin + performance.now(),
  };
  appendFileSync(effects, `${JSON.stringify(effect)}\n`);
}

const work = {
  async run(input: WorkInput, ctx: ExecutionContext) {
    note('begin', input, ctx);
    if (input.ms > 0) await sleep(input.ms, undefined, { signal: ctx.signal });
    note('end', input, ctx);
    return { name: input.name, pid: process.pid, token: `${ctx.execution.token}` };
  },
};

const tasks: TaskModule = defineTasks({
  work: defineTask({ name: 'work', ...work }),
  inline: defineTask({ name: 'work.inline', exec: 'inline', ...work }),
  fail: defineTask({
    name: 'fail',
    exec: 'inline',
    retry: { attempts: 2, min: '10ms', max: '20ms' },
    run: () => {
      throw new RangeError('no more tea');
    },
  }),
  untilAborted: defineTask({
    name: 'until.aborted',
    exec: 'inline',
    run: (_: unknown, { signal }: ExecutionContext) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      }),
  }),
});

export default tasks;
