/**
 * The sentinel's half on its own thread: a renewal loop per kept lease, all over one keep-alive stream.
 *
 * It knows no worker: transport, clock and the way back are given, so tests run it where they like.
 */
import type { Clock } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import { RenewalLoop } from '../renewal-loop.js';
import { KeepAliveStream } from './keepalive-stream.js';
import { type FromSentinel, LeaseMemory, type ToSentinel } from './sentinel-protocol.js';
import type { Transport } from './transport.js';

export class SentinelWorker {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #post: (message: FromSentinel) => void;
  readonly #stream: KeepAliveStream;
  readonly #loops = new Map<number, RenewalLoop>();

  /** @param clock - its monotonic side is the process clock */
  constructor(transport: Transport, clock: Clock, post: (message: FromSentinel) => void) {
    this.#transport = transport;
    this.#clock = clock;
    this.#post = post;
    this.#stream = new KeepAliveStream(transport, clock);
  }

  take(message: ToSentinel): void {
    if (message.type === 'keep') this.#keep(message);
    else if (message.type === 'renew') this.#loops.get(message.number)?.renewNow();
    else if (message.type === 'stop') this.#loops.get(message.number)?.stop();
  }

  /** Renews nothing any more and leaves the connection. */
  async close(): Promise<void> {
    for (const loop of [...this.#loops.values()]) loop.stop();
    this.#stream.close(new MillraceError('ERR_MILLRACE_CLOSED', 'the sentinel has stopped'));
    await this.#transport.close();
  }

  #keep(message: Extract<ToSentinel, { type: 'keep' }>): void {
    const { number, leaseId, everyMs, hangLimitMs } = message;
    const memory = new LeaseMemory(message.memory);
    const loop = new RenewalLoop(this.#clock, {
      everyMs,
      hangLimitMs,
      progressAgeMs: () => memory.progressAgeMs(this.#clock.monoMs()),
      renew: () => this.#stream.renew(leaseId),
      onRenewed: (renewal) => {
        memory.noteRenewal(renewal);
        this.#post({ type: 'renewed', number });
      },
      onEnd: (lost) => {
        this.#loops.delete(number);
        if (lost) this.#post({ type: 'lost', number, message: lost.message });
      },
    });
    this.#loops.set(number, loop);
  }
}
