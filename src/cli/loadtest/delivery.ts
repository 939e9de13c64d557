/**
 * The check at the end of a load: of every task that was accepted exactly one result has come, and its own.
 *
 *   submitted = accepted + refused            refused: submit() said no, by code
 *   accepted  = completed + failed + open + unheard + lost
 *
 * A task of which no end was heard in time is looked up in the store. `open`: it has not ended, there was too much to do for
 * the time allowed. `unheard`: it has, and nobody told. `lost`: the store does not know it. The last two, `foreign` and
 * `twice` must be 0.
 */
import { isMillraceError } from '../../core/errors.js';

export interface DeliveryFacts {
  readonly submitted: number;
  readonly accepted: number;
  /** By code. */
  readonly refused: Readonly<Record<string, number>>;
  readonly completed: number;
  /** By code. */
  readonly failed: Readonly<Record<string, number>>;
  readonly open: number;
  readonly unheard: number;
  readonly lost: number;
  /** Results of another task. */
  readonly foreign: number;
  /** Results beyond the first of a task. */
  readonly twice: number;
  /** Tasks whose result came from a repeated execution. */
  readonly repeated: number;
}

/** What became of tasks whose end was not heard in time. */
export type LateFacts = Pick<DeliveryFacts, 'open' | 'unheard' | 'lost'>;

export class Delivery {
  readonly #hasResult: Uint8Array;
  readonly #refused = new Map<string, number>();
  readonly #failed = new Map<string, number>();
  /** Ids of accepted tasks that have not ended. */
  readonly #waiting = new Map<number, string>();
  #submitted = 0;
  #accepted = 0;
  #completed = 0;
  readonly #late = { open: 0, unheard: 0, lost: 0 };
  #foreign = 0;
  #twice = 0;
  #repeated = 0;

  constructor(total: number) {
    this.#hasResult = new Uint8Array(total);
  }

  get completed(): number {
    return this.#completed;
  }

  get ended(): number {
    return this.#completed + count(this.#failed) + count(this.#refused);
  }

  get repeated(): number {
    return this.#repeated;
  }

  noteSubmit(): void {
    this.#submitted++;
  }

  noteAccepted(n: number, id: string): void {
    this.#accepted++;
    this.#waiting.set(n, id);
  }

  noteRefused(error: unknown): void {
    add(this.#refused, codeOf(error));
  }

  noteResult(n: number, result: { readonly n: number; readonly attempt: number }): void {
    this.#waiting.delete(n);
    if (result.n !== n) this.#foreign++;
    else if (this.#hasResult[n] === 1) this.#twice++;
    this.#hasResult[n] = 1;
    this.#completed++;
    if (result.attempt > 1) this.#repeated++;
  }

  noteFailed(n: number, error: unknown): void {
    this.#waiting.delete(n);
    add(this.#failed, codeOf(error));
  }

  /**
   * Looks up what has not ended.
   *
   * @param whereIs - what the store says of this task
   */
  async settle(whereIs: (id: string) => Promise<keyof LateFacts>): Promise<void> {
    for (const id of this.#waiting.values()) this.#late[await whereIs(id)]++;
  }

  facts(): DeliveryFacts {
    return {
      submitted: this.#submitted,
      accepted: this.#accepted,
      refused: Object.fromEntries(this.#refused),
      completed: this.#completed,
      failed: Object.fromEntries(this.#failed),
      ...this.#late,
      foreign: this.#foreign,
      twice: this.#twice,
      repeated: this.#repeated,
    };
  }
}

/** Whether every accepted task has exactly one result, its own. */
export function isExact({ accepted, completed, lost, foreign, twice }: DeliveryFacts): boolean {
  return accepted === completed && lost + foreign + twice === 0;
}

function codeOf(error: unknown): string {
  return isMillraceError(error) ? error.code : String((error as Error)?.message ?? error);
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function count(counts: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const value of counts.values()) total += value;
  return total;
}
