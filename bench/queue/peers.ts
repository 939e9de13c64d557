/** The peers that the project does not depend on: the newest versions that run on its oldest Node. */
import type { Peer } from '../lib/bench.js';

export const BULLMQ: Peer = { name: 'bullmq', version: '6.7.0', beside: { ioredis: '5.9.2' } };
/** Those from 11 on need a newer Node. */
export const PG_BOSS: Peer = { name: 'pg-boss', version: '10.4.2', beside: { pg: '8.23.1' } };
/** Those from 0.18 on need a newer Node. */
export const GRAPHILE: Peer = {
  name: 'graphile-worker',
  version: '0.17.3',
  beside: { pg: '8.23.1' },
};
