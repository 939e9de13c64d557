/** What a contender of the queue bench can do. The workloads know nothing else of it. */

/** 200 bytes as JSON. */
export interface Item {
  readonly id: number;
  readonly text: string;
}

export const ITEM_BYTES = 200;

const FILLER = 'abcdefghijklmnopqrstuvwxyz0123456789'.repeat(ITEM_BYTES / 20);

/**
 * The item of this number: the same in every process. Its text is a short head and a piece of one string that all
 * items share, so that making items costs a producer little next to handing them in.
 */
export function itemOf(id: number): Item {
  const head = `${id}-`;
  const start = `{"id":${id},"text":""}`.length;
  return { id, text: head + FILLER.slice(0, ITEM_BYTES - start - head.length) };
}

/** Milliseconds on the clock that the threads and processes of a machine share. */
export function sharedNowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Where tasks are handed in. */
export interface Producer {
  /** How many items one bulk call takes, and how many calls are under way at once: what suits the contender. */
  readonly bulk: { readonly items: number; readonly lanes: number };
  /** One bulk call; resolves when all are stored. @param dueAtMs - epoch ms; now unless said */
  submitAll(items: readonly Item[], dueAtMs?: number): Promise<void>;
  /** The call for a single task; resolves when it is stored. */
  submit(item: Item): Promise<void>;
  close(): Promise<void>;
}

/** Where tasks run. Handlers note each item in the inherited {@link Ledger}, and wait for its gate. */
export interface Worker extends Producer {
  /** Resolves when no task is left: each end is stored. Called when all have run. */
  settled(): Promise<void>;
}

export interface Contestant {
  /**
   * `'process'`: one of its own. `'worker'`: the worker's process is the only one that can submit, so it does, and the
   * queue is loaded while the worker's gate is shut.
   */
  readonly producer: 'process' | 'worker';
  /** @param space - a queue of its own, empty when it is named for the first time */
  openProducer(space: string): Promise<Producer>;
  openWorker(space: string): Promise<Worker>;
  /** A bare write of an item to the store, stored as a task is: one after another. @returns what it takes, in ms */
  commitTimesMs(count: number): Promise<Float64Array>;
  /** What else is worth knowing at the end, e.g. the store's size. */
  notes(): Promise<Record<string, number | string>>;
  close(): Promise<void>;
}

/** What a producer process needs to know to open its end. */
export interface Address {
  readonly contender: string;
  readonly url: string;
}
