/**
 * What never gets into a log: secrets in the fields and errors that user code hands over.
 *
 * Inputs and results of tasks are not logged at all, so what remains is `ctx.log` and errors. There a value is
 * replaced when the name of its field says that it is secret, at any depth; credentials in URLs are replaced wherever
 * text is. Names are compared whole, without case, dashes and underscores: `apiKey`, `API_KEY` and `api-key` are one.
 *
 * Only copies are changed. Input is bounded already (16 KiB of JSON per line, bounded errors); depth is bounded here.
 */

/** Names of fields that are secret wherever they stand. */
const SECRET_NAMES: readonly string[] = [
  'password',
  'passwd',
  'passphrase',
  'pwd',
  'secret',
  'clientSecret',
  'token',
  'accessToken',
  'refreshToken',
  'idToken',
  'apiKey',
  'apiToken',
  'privateKey',
  'credentials',
  'authorization',
  'proxyAuthorization',
  'cookie',
  'setCookie',
  'sessionId',
  'connectionString',
];

/** What stands in their place. */
export const REDACTED = '[redacted]';

const DEPTH_MAX = 32;
/** user:password@ after a scheme. Linear: the parts exclude the characters that end them. */
const URL_CREDENTIALS = /\b([a-z][a-z0-9+.-]{0,30}:\/\/)[^\s/@:]{0,200}:[^\s/@]{0,200}@/gi;

/** Makes copies without secrets. */
export class Redaction {
  readonly #secret: ReadonlySet<string>;

  /** @param names - besides {@link SECRET_NAMES} */
  constructor(names: readonly string[] = []) {
    this.#secret = new Set([...SECRET_NAMES, ...names].map(plainName));
  }

  /** A copy of plain data. Never throws for data out of JSON. */
  of(value: unknown, depth: number = DEPTH_MAX): unknown {
    if (typeof value === 'string') return withoutCredentials(value);
    if (typeof value !== 'object' || value === null) return value;
    if (depth === 0) return '[deep]';
    if (Array.isArray(value)) return value.map((item) => this.of(item, depth - 1));
    // Without a prototype: a field may be called __proto__.
    const copy: Record<string, unknown> = Object.create(null);
    for (const [name, field] of Object.entries(value)) {
      copy[name] = this.#secret.has(plainName(name)) ? REDACTED : this.of(field, depth - 1);
    }
    return copy;
  }
}

function plainName(name: string): string {
  return name.replace(/[-_]/g, '').toLowerCase();
}

/** Text with `[redacted]` for the user and password of each URL in it. */
export function withoutCredentials(text: string): string {
  return text.includes('://') ? text.replace(URL_CREDENTIALS, `$1${REDACTED}@`) : text;
}
