/** A thread as poolifier's README has it. */
import { importPeer } from '../lib/peers.js';
import { POOLIFIER } from './peers.js';
import { handle, type Input } from './tasks.js';

const { ThreadWorker } = await importPeer<{
  readonly ThreadWorker: new (run: (input?: Input) => unknown) => object;
}>(POOLIFIER);

export default new ThreadWorker((input) => handle(input!));
