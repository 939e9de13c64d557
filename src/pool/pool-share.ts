/**
 * One pool for two users: each sees a Pool of its own, and takes whatever place is free.
 *
 * Both are told when places come free; who is told first takes turns. Threads start with the first user that starts,
 * and stop with the last one that stops.
 */
import type { BatchListener, Pool, RunningBatch } from '../core/pool.js';
import { BaseService } from '../core/service.js';

/** Two views of a pool. REQUIRES: nobody else uses it, and both are stopped in the end. */
export function sharePool(pool: Pool): readonly [Pool, Pool] {
  const shares: PoolShare[] = [];
  let turn = 0;
  const tell = (event: 'onFree' | 'onReserve') => (): void => {
    const first = turn++ % shares.length;
    for (let i = 0; i < shares.length; i++) shares[(first + i) % shares.length]![event]?.();
  };
  pool.onFree = tell('onFree');
  pool.onReserve = tell('onReserve');
  let users = 2;
  const leave = async (): Promise<void> => {
    users--;
    if (users === 0) await pool.stop();
  };
  shares.push(new PoolShare(pool, leave), new PoolShare(pool, leave));
  return [shares[0]!, shares[1]!];
}

class PoolShare extends BaseService implements Pool {
  onFree: (() => void) | undefined;
  onReserve: (() => void) | undefined;
  readonly #pool: Pool;
  readonly #leave: () => Promise<void>;
  readonly #running = new Set<() => void>();
  #whenIdle: (() => void)[] = [];

  constructor(pool: Pool, leave: () => Promise<void>) {
    super();
    this.#pool = pool;
    this.#leave = leave;
  }

  get threadCount(): number {
    return this.#pool.threadCount;
  }

  get freePlaces(): number {
    return this.#pool.freePlaces;
  }

  get isReserveFree(): boolean {
    return this.#pool.isReserveFree;
  }

  keepReserve(): void {
    this.#pool.keepReserve();
  }

  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    return this.#pool.run(batch, this.#counted(listener));
  }

  runAlone(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    return this.#pool.runAlone(batch, this.#counted(listener));
  }

  /** Waits for this user's batches; what is left then is killed with everything on the pool. */
  async drain(graceMs: number): Promise<void> {
    if (this.#running.size === 0) return;
    const idle = new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    await Promise.race([idle, this.#pool.drain(graceMs)]);
  }

  protected onStart(): Promise<void> {
    return this.#pool.start();
  }

  protected onStop(): Promise<void> {
    return this.#leave();
  }

  #counted(listener: BatchListener): BatchListener {
    const end = (): void => {
      this.#running.delete(end);
      if (this.#running.size > 0) return;
      for (const tell of this.#whenIdle.splice(0)) tell();
    };
    this.#running.add(end);
    return {
      onResults: (frame) => listener.onResults(frame),
      onProgress: (progress) => listener.onProgress?.(progress),
      onEnd: (loss) => {
        end();
        listener.onEnd(loss);
      },
    };
  }
}
