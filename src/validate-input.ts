/**
 * Whether an input satisfies its task's schema.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { MillraceError } from './core/errors.js';
import type { TaskSpec } from './core/task.js';

/** @returns a promise where the schema's check is one @throws ERR_MILLRACE_INVALID_INPUT */
export function validateInput(
  { name, schema }: Pick<TaskSpec, 'name' | 'schema'>,
  input: unknown,
): void | Promise<void> {
  if (schema === undefined) return;
  const refuse = ({ issues }: StandardSchemaV1.Result<unknown>): void => {
    if (issues) throw invalidInput(name, issues);
  };
  const checked = schema['~standard'].validate(input);
  return checked instanceof Promise ? checked.then(refuse) : refuse(checked);
}

function invalidInput(
  name: string,
  issues: readonly { readonly message: string; readonly path?: unknown }[],
): MillraceError {
  const shown = issues.slice(0, 10).map((issue) => issue.message);
  return new MillraceError(
    'ERR_MILLRACE_INVALID_INPUT',
    `the input of task '${name}' does not satisfy its schema: ${shown.join('; ')}`,
    { details: { name, issues: shown } },
  );
}
