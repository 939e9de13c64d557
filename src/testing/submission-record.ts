/**
 * SubmissionRecord: what a runtime was given to do, for assertions. It stands in front of the runtime's methods, so it sees what
 * the service under test submits, in order, and only what was accepted.
 */
import { AssertionError } from 'node:assert';
import { WritableStream } from 'node:stream/web';
import { isDeepStrictEqual } from 'node:util';
import { durationMs } from '../core/durations.js';
import type { Submittable } from '../core/task.js';
import type { Runtime } from '../runtime.js';
import type { SubmitManyOptions, SubmitOptions } from '../submit-options.js';

/** One task that was accepted. */
export interface Submitted<Input = unknown> {
  /** Name of the task. */
  readonly task: string;
  readonly input: Input;
  readonly options: SubmitOptions;
}

/** Which submissions count. */
export interface Expected {
  /** Exactly so many. @defaultValue at least one */
  readonly times?: number;
  /** Options that they have; `delay` in any spelling. */
  readonly options?: Partial<Omit<SubmitOptions, 'signal'>>;
}

/** A part of the input that has to be there, or a function that says whether it is right. */
export type InputMatch<Input> = DeepPartial<Input> | ((input: Input) => boolean);

type DeepPartial<T> = T extends object ? { readonly [K in keyof T]?: DeepPartial<T[K]> } : T;

export class SubmissionRecord {
  readonly #submitted: Submitted[] = [];

  /** Everything so far, oldest first. */
  get all(): readonly Submitted[] {
    return this.#submitted;
  }

  /** Forgets everything so far. */
  clear(): void {
    this.#submitted.length = 0;
  }

  /** Notes what is submitted to a runtime from now on. */
  follow(runtime: Runtime): void {
    const submit = runtime.submit.bind(runtime);
    const trySubmit = runtime.trySubmit.bind(runtime);
    const submitMany = runtime.submitMany.bind(runtime);
    const writable = runtime.writable.bind(runtime);
    runtime.submit = async <Input, Output>(
      task: Submittable<Input, Output> | string,
      input: Input,
      options: SubmitOptions = {},
    ) => {
      const handle = await submit(task, input, options);
      if (handle.created) this.#submitted.push({ task: nameOf(task), input, options });
      return handle;
    };
    runtime.trySubmit = async <Input, Output>(
      task: Submittable<Input, Output> | string,
      input: Input,
      options: Omit<SubmitOptions, 'signal'> = {},
    ) => {
      const handle = await trySubmit(task, input, options);
      if (handle?.created) this.#submitted.push({ task: nameOf(task), input, options });
      return handle;
    };
    runtime.writable = <Input, Output>(
      task: Submittable<Input, Output> | string,
      options: SubmitManyOptions<Input> = {},
    ) => {
      const { idempotencyKey: _, ...shared } = options;
      const writer = writable(task, options).getWriter();
      // Its errors are those of whoever writes.
      writer.closed.catch(() => {});
      return new WritableStream<Input>({
        write: async (input) => {
          await writer.write(input);
          this.#submitted.push({ task: nameOf(task), input, options: shared });
        },
        close: () => writer.close(),
        abort: (reason) => writer.abort(reason),
      });
    };
    runtime.submitMany = async <Input, Output>(
      task: Submittable<Input, Output> | string,
      items: Iterable<Input> | AsyncIterable<Input>,
      options: SubmitManyOptions<Input> = {},
    ) => {
      const inputs: Input[] = [];
      const many = await submitMany(task, noting(items, inputs), options);
      const { idempotencyKey: _, ...shared } = options;
      for (const input of inputs) {
        this.#submitted.push({ task: nameOf(task), input, options: shared });
      }
      return many;
    };
  }

  /** @throws AssertionError that shows what was submitted instead */
  expect<Input>(
    task: Submittable<Input, unknown> | string,
    match: InputMatch<Input> | undefined,
    { times, options = {} }: Expected,
  ): readonly Submitted<Input>[] {
    const name = nameOf(task);
    const ofTask = this.#submitted.filter((one) => one.task === name) as Submitted<Input>[];
    const found = ofTask.filter(
      (one) => isMatch(one.input, match) && hasOptions(one.options, options),
    );
    if (times === undefined ? found.length > 0 : found.length === times) return found;
    const wanted = times === undefined ? 'at least once' : `${times} times`;
    throw new AssertionError({
      message: `task '${name}' was expected ${wanted}${match === undefined ? '' : ' with this input'}, and was submitted ${found.length} times so; of it there were ${shown(ofTask)}`,
      actual: ofTask.map(({ input }) => input),
      expected: match,
      operator: 'expectSubmitted',
    });
  }
}

function nameOf(task: { readonly name: string } | string): string {
  return typeof task === 'string' ? task : task.name;
}

async function* noting<Input>(
  items: Iterable<Input> | AsyncIterable<Input>,
  inputs: Input[],
): AsyncGenerator<Input> {
  for await (const item of items) {
    inputs.push(item);
    yield item;
  }
}

function isMatch<Input>(input: Input, match: InputMatch<Input> | undefined): boolean {
  if (match === undefined) return true;
  if (typeof match === 'function') return (match as (input: Input) => boolean)(input);
  return contains(input, match);
}

/** Whether everything in `part` is in `whole`; lists have to be as long. */
function contains(whole: unknown, part: unknown): boolean {
  const isObject = typeof part === 'object' && part !== null && !Array.isArray(part);
  if (!isObject || typeof whole !== 'object' || whole === null) {
    return isDeepStrictEqual(whole, part);
  }
  return Object.entries(part).every(([key, value]) =>
    contains((whole as Readonly<Record<string, unknown>>)[key], value),
  );
}

function hasOptions(given: SubmitOptions, wanted: Expected['options']): boolean {
  return Object.entries(wanted ?? {}).every(([name, value]) => {
    const own = given[name as keyof SubmitOptions];
    const isDuration = name === 'delay' || name === 'ttl';
    if (!isDuration || own === undefined) return isDeepStrictEqual(own, value);
    return durationMs(own as number, name) === durationMs(value as number, name);
  });
}

function shown(submitted: readonly Submitted[]): string {
  if (submitted.length === 0) return 'none';
  const inputs = submitted.slice(0, 5).map(({ input }) => JSON.stringify(input)?.slice(0, 200));
  return `${submitted.length}: ${inputs.join(', ')}${submitted.length > 5 ? ', ...' : ''}`;
}
