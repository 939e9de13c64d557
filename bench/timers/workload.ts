/** Numbers that look random and are the same in every run and for every contender. */

/** A generator of uint32 (xorshift32). */
export function randomUint32(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Whole milliseconds, evenly spread over `[fromMs, toMs)`. */
export function randomDues(
  count: number,
  fromMs: number,
  toMs: number,
  seed: number,
): Float64Array {
  const next = randomUint32(seed);
  const dues = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    dues[i] = fromMs + Math.floor((next() / 2 ** 32) * (toMs - fromMs));
  }
  return dues;
}

/** The numbers below `count`, shuffled (Fisher and Yates). */
export function randomOrder(count: number, seed: number): Uint32Array {
  const next = randomUint32(seed);
  const order = new Uint32Array(count).map((_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor((next() / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** What the collector is asked for between steps. The processes run with --expose-gc. */
export function collectGarbage(): void {
  const gc = (globalThis as { gc?: () => void }).gc;
  if (gc === undefined) throw new Error('this process was started without --expose-gc');
  gc();
  gc();
}
