/**
 * A store with etcd's semantics whose network is under the test's control.
 *
 *   process A ── SimConnection ──╮  faults, latency, partition       ╭── StateMachine (revisions, leases, watches)
 *   process B ── SimConnection ──┴── drawn per call from one seed ───╯   on a clock of its own
 *
 * The state machine is the one of the local stores, so what is proven here is not proven about a fiction; it passes
 * the same conformance suite as they and etcd do. Everything opened from one description shares the data: each
 * process of a simulated cluster opens it with its own clock, and everything that comes back to a process comes as a
 * wake-up of that clock. So a clock that stands still, or is dead, silences the store for its process; what was sent
 * before is under way all the same.
 */
import type { Clock } from '../core/clock.js';
import { knownOptions, wholeNumber } from '../core/options.js';
import { type Random, seededRandom } from '../core/random.js';
import { type Entry, prefixRange, type Revision, STORE_LIMITS, type Txn } from '../core/store.js';
import type { HistoryOptions, StoreContext, StoreFactory } from '../store/factory.js';
import { StateMachine } from '../store/machine/state-machine.js';
import { StoreView } from '../store/machine/store-view.js';
import { MemoryBackend } from '../store/memory/memory-backend.js';
import { type AppliedTxn, SimConnection, type SimServer } from './sim-connection.js';
import { checkFaults, type FaultCounts, NO_FAULTS, type StoreFaults } from './store-faults.js';

const BYTES_MAX = 1024 ** 3;
/** A segment of tasks needs a few, and so does a task with a key. */
const OPERATIONS_MAX_MIN = 16;

export interface SimStoreOptions {
  /** The same seed draws the same faults for the same calls. @defaultValue 1 */
  readonly seed?: number;
  /** From the beginning on; see {@link SimStore.setFaults}. @defaultValue none */
  readonly faults?: StoreFaults;
  /** The store's own time. @defaultValue the clock of whoever opened it last */
  readonly clock?: Clock;
  /** Whether its processes share it, as they do etcd: runtimes on it are then nodes of one cluster. @defaultValue false */
  readonly shared?: boolean;
  /** Keys and values it may hold, with 200 bytes for each entry. @defaultValue 1 GiB */
  readonly bytesMax?: number;
  /** Operations that a transaction may hold, as etcd's `--max-txn-ops`; 16 to 128. @defaultValue 128 */
  readonly operationsMax?: number;
  readonly history?: HistoryOptions;
  /** Whether a transaction is lost on its way, whatever is drawn: for faults of your own. */
  readonly isLost?: (txn: Txn) => boolean;
  /** Sees every transaction that reaches the store, in the order of revisions, before its caller hears of it. */
  readonly onApplied?: (applied: AppliedTxn) => void;
}

export interface SimStore extends StoreFactory {
  open(context: StoreContext): Promise<SimConnection>;
  /** Everything opened so far, in order. */
  readonly connections: readonly SimConnection[];
  readonly counts: Readonly<FaultCounts>;
  /** Replaces the faults for all calls from now on; without an argument the network is healed. */
  setFaults(faults?: StoreFaults): void;
  /** Forgets all history: a watch that is behind must list again. */
  compact(): Promise<void>;
  /** What the store holds below a prefix at this moment, whatever the network does; in order of keys. */
  entries(prefix: string): readonly Entry[];
}

const OPTIONS: Readonly<Record<keyof SimStoreOptions, true>> = {
  seed: true,
  faults: true,
  clock: true,
  shared: true,
  bytesMax: true,
  operationsMax: true,
  history: true,
  isLost: true,
  onApplied: true,
};

/**
 * Describes a simulated store.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION
 */
export function simStore(options: SimStoreOptions = {}): SimStore {
  knownOptions(options, '', OPTIONS);
  const {
    seed = 1,
    shared = false,
    bytesMax = BYTES_MAX,
    history = {},
    onApplied,
    isLost,
  } = options;
  const operationsMax = wholeNumber(
    options.operationsMax ?? STORE_LIMITS.operationsMax,
    'operationsMax',
    OPERATIONS_MAX_MIN,
    STORE_LIMITS.operationsMax,
  );
  const random: Random = seededRandom(seed);
  const counts = noCounts();
  const connections: SimConnection[] = [];
  let faults = checkFaults(options.faults ?? NO_FAULTS);
  let machine: StateMachine | undefined;
  let clock = options.clock;
  const machineOn = (opener: Clock): StateMachine => {
    if (options.clock === undefined) clock = opener;
    const backend = new MemoryBackend(bytesMax);
    machine ??= new StateMachine(clock!, { backend, incarnation: 1, orphans: new Map() }, history);
    machine.useClock(clock!);
    return machine;
  };
  return {
    kind: 'memory',
    location: 'simulation',
    connections,
    counts,
    async open(context) {
      const opened = machineOn(context.clock);
      const server: SimServer = {
        machine: opened,
        counts,
        onApplied,
        isShared: shared,
        operationsMax,
        isLost,
        get clock() {
          return opened.clock;
        },
        get faults() {
          return faults;
        },
      };
      const connection = new SimConnection(
        server,
        new StoreView(opened, async () => {}),
        context.clock,
        random.fork(`connection ${connections.length}`),
      );
      connections.push(connection);
      return connection;
    },
    setFaults(next = NO_FAULTS) {
      faults = checkFaults(next);
    },
    async compact() {
      if (machine === undefined) return;
      counts.compaction++;
      machine.compact(machine.revision as Revision);
    },
    entries: (prefix) => machine?.peek(prefixRange(prefix)) ?? [],
  };
}

function noCounts(): FaultCounts {
  return {
    requestLost: 0,
    answerLost: 0,
    late: 0,
    refused: 0,
    full: 0,
    hang: 0,
    readFailed: 0,
    watchCut: 0,
    partition: 0,
    leaseLost: 0,
    compaction: 0,
  };
}
