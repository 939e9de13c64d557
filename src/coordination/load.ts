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
  /** Tasks that it still has room for; below 0: it has so many too many; absent: it does not say. */
  readonly room?: number;
  /** Tasks that end there per second, lately; absent: it does not say. */
  readonly endedPerSecond?: number;
}

const FIGURES = ['open', 'ready', 'running', 'threads', 'freePlaces', 'bytes'] as const;

/** Undefined for what is no load: figures that are no number, or below 0 where there is no less than nothing. */
export function readLoad(given: unknown): Load | undefined {
  if (typeof given !== 'object' || given === null) return undefined;
  const load = given as Readonly<Record<string, unknown>>;
  const isFigure = (figure: unknown): boolean => typeof figure === 'number' && figure >= 0;
  const { room = 0, endedPerSecond = 0 } = load;
  const isFine =
    FIGURES.every((name) => isFigure(load[name])) &&
    typeof room === 'number' &&
    isFigure(endedPerSecond);
  return isFine ? (given as Load) : undefined;
}

/** Tasks that are ahead of a new one, per thread; what runs on the main thread counts as one. */
export function tasksPerThread({ ready, running, threads }: Load): number {
  return (ready + running) / Math.max(1, threads);
}
