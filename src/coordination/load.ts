/**
 * How much a node has to do, in the figures that others place new tasks by.
 */

export interface Load {
  /** Tasks that it holds and that have not ended. */
  readonly open: number;
  /** Due tasks that wait for a place. */
  readonly ready: number;
  /** Tasks that run, or are claimed to run next. */
  readonly running: number;
  /** Worker threads. */
  readonly threads: number;
  /** Batches that it could start at once. */
  readonly freePlaces: number;
  /** What its task table holds outside the JavaScript heap. */
  readonly bytes: number;
}

const FIGURES = ['open', 'ready', 'running', 'threads', 'freePlaces', 'bytes'] as const;

/** Undefined for what is no load: figures that are no number of at least 0. */
export function readLoad(given: unknown): Load | undefined {
  if (typeof given !== 'object' || given === null) return undefined;
  const load = given as Readonly<Record<string, unknown>>;
  const isFine = FIGURES.every((name) => {
    const figure = load[name];
    return typeof figure === 'number' && figure >= 0;
  });
  return isFine ? (given as Load) : undefined;
}

/** Tasks that are ahead of a new one, per thread; what runs on the main thread counts as one. */
export function tasksPerThread({ ready, running, threads }: Load): number {
  return (ready + running) / Math.max(1, threads);
}
