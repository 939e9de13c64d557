/**
 * ULIDs: ids that sort by the time they were made, and need nobody's permission.
 *
 *   01JD9Z6X5Q  3M0W8V7K2T4R1ABC
 *   48 bits     80 bits                 in Crockford's base 32: no I, L, O, U
 *   wall clock  chance
 *
 * Within one millisecond, and while the clock stands or runs back, the next id is the last one plus one, so that the
 * ids of one process rise whatever the clock does. Source: github.com/ulid/spec.
 */
import type { Clock } from '../core/clock.js';
import type { Random } from '../core/random.js';

const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const TIME_DIGITS = 10;
/** Digits of five bits; the last 80 bits. */
const CHANCE_DIGITS = 16;

export class Ulids {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #chance = new Uint8Array(CHANCE_DIGITS);
  #timeMs = -1;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** A new id, above all that this object has given. */
  next(): string {
    const nowMs = Math.max(0, Math.floor(this.#clock.wallMs()));
    if (nowMs > this.#timeMs) {
      this.#timeMs = nowMs;
      this.#draw();
    } else this.#increment();
    let time = '';
    for (let rest = this.#timeMs, i = 0; i < TIME_DIGITS; i++) {
      time = DIGITS[rest % 32] + time;
      rest = Math.floor(rest / 32);
    }
    return time + Array.from(this.#chance, (digit) => DIGITS[digit]).join('');
  }

  #draw(): void {
    for (let i = 0; i < CHANCE_DIGITS; i++) this.#chance[i] = this.#random.u32() >>> 27;
  }

  #increment(): void {
    for (let i = CHANCE_DIGITS - 1; i >= 0; i--) {
      this.#chance[i] = (this.#chance[i]! + 1) % 32;
      if (this.#chance[i] !== 0) return;
    }
    // 2^80 ids of one millisecond are used up: the next one is borrowed.
    this.#timeMs++;
    this.#draw();
  }
}
