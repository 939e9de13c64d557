/**
 * The contenders of the load: timer sets and setTimeout, without or with a payload per timer.
 *
 * A payload is kept the way the contender's kind would keep it. Those with an object per timer keep a string of its
 * own for each, as a parsed request is. Those with numbers copy the bytes into one large buffer, at the token's place.
 */
import { timerSetKind } from '../timers/sets/kinds.js';
import type { TimerSet } from '../timers/sets/timer-set.js';
import type { Driven, Lateness, Tokens } from './load.js';

const OUT_TOKENS = 4_096;
const PAYLOADS = 64;

/** The no-op that timers fire into: it notes how late they are. */
export class Sink {
  readonly #lateness: Lateness;
  readonly #dues: Float64Array;

  constructor(lateness: Lateness, tokens: Tokens) {
    this.#lateness = lateness;
    this.#dues = tokens.dues;
  }

  take(token: number, nowMs: number): void {
    this.#lateness.note(nowMs - this.#dues[token]!);
  }
}

export function driven(name: string, payloadBytes: number, tokens: Tokens, sink: Sink): Driven {
  if (name === 'setTimeout') return timeouts(payloadBytes, sink);
  const set = timerSetKind(name).make() as TimerSet<unknown>;
  if (payloadBytes === 0) return bare(set, sink);
  const isOffHeap = name === 'millrace' || name === 'js-typed-wheel';
  return isOffHeap
    ? withSlab(set, payloadBytes, tokens, sink)
    : withObjects(set, payloadBytes, tokens, sink);
}

function bare(set: TimerSet<unknown>, sink: Sink): Driven {
  const out = new Uint32Array(OUT_TOKENS);
  return {
    schedule(dueMs, _delayMs, token) {
      set.schedule(dueMs, token);
    },
    pump(nowMs) {
      for (let full = true; full; ) {
        const fired = set.advance(nowMs, out);
        for (let i = 0; i < fired; i++) sink.take(out[i]!, nowMs);
        full = fired === out.length;
      }
    },
  };
}

/** Payloads in one buffer outside the heap, a place per token. */
function withSlab(
  set: TimerSet<unknown>,
  payloadBytes: number,
  tokens: Tokens,
  sink: Sink,
): Driven {
  const out = new Uint32Array(OUT_TOKENS);
  const slab = new Uint8Array(tokens.dues.length * payloadBytes);
  const sources = Array.from({ length: PAYLOADS }, (_, index) =>
    new Uint8Array(payloadBytes).fill(index + 1),
  );
  return {
    schedule(dueMs, _delayMs, token) {
      slab.set(sources[token % PAYLOADS]!, token * payloadBytes);
      set.schedule(dueMs, token);
    },
    pump(nowMs) {
      for (let full = true; full; ) {
        const fired = set.advance(nowMs, out);
        for (let i = 0; i < fired; i++) {
          const token = out[i]!;
          if (slab[token * payloadBytes] === 0) throw new Error(`payload of ${token} is missing`);
          sink.take(token, nowMs);
        }
        full = fired === out.length;
      }
    },
  };
}

/** Payloads as strings, a place per token that is cleared when it fires. */
function withObjects(
  set: TimerSet<unknown>,
  payloadBytes: number,
  tokens: Tokens,
  sink: Sink,
): Driven {
  const out = new Uint32Array(OUT_TOKENS);
  const source = Buffer.alloc(PAYLOADS + payloadBytes, 'payload ');
  const payloads = new Array<string>(tokens.dues.length).fill('');
  return {
    schedule(dueMs, _delayMs, token) {
      payloads[token] = payloadOf(source, token, payloadBytes);
      set.schedule(dueMs, token);
    },
    pump(nowMs) {
      for (let full = true; full; ) {
        const fired = set.advance(nowMs, out);
        for (let i = 0; i < fired; i++) {
          const token = out[i]!;
          if (payloads[token]!.length === 0) throw new Error(`payload of ${token} is missing`);
          payloads[token] = '';
          sink.take(token, nowMs);
        }
        full = fired === out.length;
      }
    },
  };
}

function timeouts(payloadBytes: number, sink: Sink): Driven {
  const fire = (token: number): void => sink.take(token, performance.now());
  if (payloadBytes === 0) {
    return {
      schedule(_dueMs, delayMs, token) {
        setTimeout(fire, delayMs, token);
      },
      pump() {},
    };
  }
  const source = Buffer.alloc(PAYLOADS + payloadBytes, 'payload ');
  const fireWith = (token: number, payload: string): void => {
    if (payload.length === 0) throw new Error(`payload of ${token} is missing`);
    sink.take(token, performance.now());
  };
  return {
    schedule(_dueMs, delayMs, token) {
      setTimeout(fireWith, delayMs, token, payloadOf(source, token, payloadBytes));
    },
    pump() {},
  };
}

/** A string with bytes of its own. */
function payloadOf(source: Buffer, token: number, payloadBytes: number): string {
  const from = token % PAYLOADS;
  return source.toString('latin1', from, from + payloadBytes);
}
