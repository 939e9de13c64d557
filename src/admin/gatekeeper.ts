/**
 * Who may ask: bearer tokens, compared in constant time, and a bound on guessing.
 *
 * Tokens are hashed before they are compared, so neither their content nor their length shows in the time it takes. An
 * address that presented wrong tokens GUESSES_MAX times is not listened to for the rest of the minute, whatever it
 * presents. Without a token, requests must name an address of this machine in `Host`: a page that a browser here
 * has loaded can make it send requests (DNS rebinding), but not choose that header.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isLoopback } from './admin-options.js';

export type Verdict = 'welcome' | 'unknown' | 'tired' | 'misdirected';

const GUESSES_MAX = 10;
const WINDOW_MS = 60_000;
const ADDRESSES_MAX = 1_000;

export class Gatekeeper {
  readonly #digest: Buffer | undefined;
  readonly #nowMs: () => number;
  /** Wrong tokens in this window, by address. */
  readonly #guesses = new Map<string, number>();
  #windowEndsMs = 0;

  /** @param token - undefined: whoever is on this machine is welcome */
  constructor(token: string | undefined, nowMs: () => number) {
    this.#digest = token === undefined ? undefined : digestOf(token);
    this.#nowMs = nowMs;
  }

  judge(headers: IncomingHttpHeaders, address: string): Verdict {
    if (this.#digest === undefined) {
      return isLoopback(hostOf(headers.host ?? '')) ? 'welcome' : 'misdirected';
    }
    this.#turnWindow();
    const guesses = this.#guesses.get(address) ?? 0;
    if (guesses >= GUESSES_MAX) return 'tired';
    const [, token] = /^Bearer ([\x21-\x7e]{1,1024})$/i.exec(headers.authorization ?? '') ?? [];
    if (token === undefined) return 'unknown';
    if (timingSafeEqual(digestOf(token), this.#digest)) return 'welcome';
    if (this.#guesses.size < ADDRESSES_MAX || guesses > 0) this.#guesses.set(address, guesses + 1);
    return 'unknown';
  }

  #turnWindow(): void {
    if (this.#nowMs() < this.#windowEndsMs) return;
    this.#windowEndsMs = this.#nowMs() + WINDOW_MS;
    this.#guesses.clear();
  }
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** The host of a `Host` header, without port and brackets. */
function hostOf(header: string): string {
  return header
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
}
