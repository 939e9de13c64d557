/** The peers that the project does not depend on. */
import type { Peer } from '../lib/bench.js';

export const TINYPOOL: Peer = { name: 'tinypool', version: '2.2.0' };
export const POOLIFIER: Peer = { name: 'poolifier', version: '5.3.2' };
export const WORKERPOOL: Peer = { name: 'workerpool', version: '10.0.3' };
