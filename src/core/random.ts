/**
 * The Random port, and the generator behind it.
 *
 * Jitter, ids and placement draw from here, so that one seed replays one run. The generator is xoshiro128**
 * (Blackman and Vigna, 2018) seeded through splitmix32: fast, small, and good enough for everything but
 * cryptography. The composition root seeds it from the system's entropy; tests seed it with a number.
 */

export interface Random {
  /** A uniform integer in [0, 2^32). */
  u32(): number;
  /** A uniform number in [0, 1). */
  float(): number;
  /** An independent generator; the label keeps one component's draws from reshuffling another's. */
  fork(label: string): Random;
}

/** A Random that yields the same draws for the same seed (four u32 words, or one number). */
export function seededRandom(seed: number | Uint32Array): Random {
  const state = new Uint32Array(4);
  if (typeof seed === 'number') {
    let mix = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      mix = (mix + 0x9e3779b9) >>> 0;
      let z = mix;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      state[i] = z ^ (z >>> 15);
    }
  } else {
    state.set(seed.subarray(0, 4));
  }
  // The all-zero state is the one fixed point of the generator.
  if (state.every((word) => word === 0)) state[0] = 1;
  return new Xoshiro(state);
}

class Xoshiro implements Random {
  readonly #state: Uint32Array;

  constructor(state: Uint32Array) {
    this.#state = state;
  }

  u32(): number {
    const s = this.#state;
    const scrambled = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const shifted = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= shifted;
    s[3] = rotateLeft(s[3]!, 11);
    return scrambled;
  }

  float(): number {
    return this.u32() / 0x1_0000_0000;
  }

  fork(label: string): Random {
    let hash = 0x811c9dc5;
    for (let i = 0; i < label.length; i++) {
      hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193);
    }
    return seededRandom((this.u32() ^ hash) >>> 0);
  }
}

function rotateLeft(word: number, bits: number): number {
  return ((word << bits) | (word >>> (32 - bits))) >>> 0;
}
