/** The task of the ablation: it says a line, as handlers do. Worker threads load this module. */
import {
  defineTask,
  defineTasks,
  type ExecutionContext,
  type Task,
  type TaskModule,
} from '../../core/task.js';

export interface AblationInput {
  readonly n: number;
  readonly pad: string;
}

export const work: Task<AblationInput, number> = defineTask({
  name: 'ablation.work',
  queue: 'ablation',
  concurrency: 256,
  run({ n }: AblationInput, ctx: ExecutionContext): number {
    ctx.log.info({ n }, 'worked');
    return n;
  },
});

const tasks: TaskModule = defineTasks({ work });
export default tasks;
