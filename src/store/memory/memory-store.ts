/**
 * A store without a disk: for tests, for work that may be lost with the process, and as the measure of what
 * the others cost.
 */
import { MillraceError } from '../../core/errors.js';
import type { Store } from '../../core/store.js';
import type { HistoryOptions, StoreContext, StoreFactory } from '../factory.js';
import { StateMachine } from '../machine/state-machine.js';
import { StoreView } from '../machine/store-view.js';
import { MemoryBackend } from './memory-backend.js';

const BYTES_MAX = 1024 ** 3;

export interface MemoryStoreOptions {
  /**
   * Keys and values it may hold, with 200 bytes for each entry; a write beyond it answers ERR_MILLRACE_STORE_FULL.
   * @defaultValue 1 GiB
   */
  readonly bytesMax?: number;
  readonly history?: HistoryOptions;
}

/**
 * Describes a store in memory. Everything opened from one description shows the same data, for as long as the
 * description is referenced: closing a view loses nothing, so a test can "restart" a runtime on it, or run two.
 * Leases go by the clock that was given last.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION for a size that is no positive number
 */
export function memoryStore(options: MemoryStoreOptions = {}): StoreFactory {
  const { bytesMax = BYTES_MAX, history = {} } = options;
  if (!(bytesMax > 0)) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      `bytesMax is ${String(bytesMax)}; give a positive number of bytes`,
      { details: { bytesMax } },
    );
  }
  let machine: StateMachine | undefined;
  return {
    kind: 'memory',
    location: 'memory',
    async open({ clock }: StoreContext): Promise<Store> {
      if (machine === undefined) {
        const backend = new MemoryBackend(bytesMax);
        machine = new StateMachine(clock, { backend, incarnation: 1, orphans: new Map() }, history);
      } else {
        machine.useClock(clock);
      }
      return new StoreView(machine, async () => {});
    },
  };
}
