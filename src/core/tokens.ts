/** Secrets that requests carry: what is long enough not to be guessed, and goes into a header as it is. */
import { invalidOption } from './options.js';

const TOKEN_CHARS_MIN = 32;
const TOKEN_CHARS_MAX = 1_024;

/** @throws ERR_MILLRACE_INVALID_OPTION, without the token in it */
export function checkToken(token: unknown, name: string): asserts token is string {
  const isToken =
    typeof token === 'string' &&
    token.length >= TOKEN_CHARS_MIN &&
    token.length <= TOKEN_CHARS_MAX &&
    /^[\x21-\x7e]+$/.test(token);
  if (isToken) return;
  const shown = typeof token === 'string' ? `a token of ${token.length} characters` : token;
  throw invalidOption(
    name,
    shown,
    `${TOKEN_CHARS_MIN} to ${TOKEN_CHARS_MAX} printable characters without spaces, such as those of: openssl rand -hex 32`,
  );
}
