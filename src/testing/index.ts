/**
 * millrace/testing: time under control for tests of services that embed millrace.
 */
export { VirtualClock } from './virtual-clock.js';
