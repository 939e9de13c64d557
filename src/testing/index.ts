/**
 * millrace/testing: time, the store and whole clusters under control, for tests of services that embed millrace.
 */
export { type Cluster, type ClusterOptions, cluster } from './cluster.js';
export type { ClusterNode } from './cluster-node.js';
export type { AppliedTxn, SimConnection } from './sim-connection.js';
export { type SimStore, type SimStoreOptions, simStore } from './sim-store.js';
export type { FaultCounts, StoreFaults } from './store-faults.js';
export type { Expected, InputMatch, Submitted } from './submission-record.js';
export { type TestRuntime, type TestRuntimeOptions, testRuntime } from './test-runtime.js';
export { VirtualClock } from './virtual-clock.js';
