/**
 * millrace/testing: time and the store under control, for tests of services that embed millrace.
 */
export type { AppliedTxn, SimConnection } from './sim-connection.js';
export { type SimStore, type SimStoreOptions, simStore } from './sim-store.js';
export type { FaultCounts, StoreFaults } from './store-faults.js';
export { VirtualClock } from './virtual-clock.js';
