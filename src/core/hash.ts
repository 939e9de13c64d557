/**
 * Numbers out of names, the same on every node and in every version: who owns what, and what is spread over time, is
 * agreed on by computing it.
 *
 * FNV-1a, finished with the mixer of MurmurHash3, which spreads what short texts leave in the low bits.
 */

/** 32 bits of a text. @param basis - other bases give independent hashes */
export function hash32(text: string, basis = 0x811c9dc5): number {
  let hash = basis;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Uniform in (0, 1). */
export function uniformOf(text: string): number {
  const high = hash32(text);
  const low = hash32(text, 0x2f0b4c47);
  return (high * 0x20_0000 + (low >>> 11) + 0.5) / 2 ** 53;
}
