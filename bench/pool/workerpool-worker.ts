/** A thread as workerpool's README has it. */
import { importPeer } from '../lib/peers.js';
import { WORKERPOOL } from './peers.js';
import { handle } from './tasks.js';

const { default: workerpool } = await importPeer<{
  readonly default: { worker(methods: object): void };
}>(WORKERPOOL);

workerpool.worker({ handle });
