/**
 * Names of locks and elections, and the prefix that each has in the store: `<name>/`, with a shard `<name>/<shard>/`.
 *
 * The line for a name is everything under its prefix, so a name must not be the beginning of another's path: names
 * hold no slash, and one name is one thing: a lock, a lock with shards, or an election.
 */
import { MillraceError } from '../core/errors.js';
import { invalidOption } from '../core/options.js';

const NAME_CHARS_MAX = 200;
/** Printable ASCII without the slash. */
const NAME_FORM = /^[!-.0-~]+$/;
/** What a name stands for. */
type Use = 'a lock' | 'a lock with shards' | 'an election';

/** Enough to notice a mix-up early without remembering every name that ever was. */
const REMEMBERED_MAX = 10_000;

export class Names {
  readonly #prefix: string;
  readonly #uses = new Map<string, Use>();

  /** @param prefix - stands in front of every name; may be empty */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /**
   * The prefix of a lock's keys, with its final slash.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION for a name or shard that cannot be part of a key, and for a name that this
   *   process has used in another way
   */
  lineOfLock(name: string, shard?: string | number): string {
    checkPart(name, 'name');
    if (shard !== undefined) checkPart(String(shard), 'shard');
    this.#note(name, shard === undefined ? 'a lock' : 'a lock with shards');
    return `${this.#prefix}${name}/${shard === undefined ? '' : `${shard}/`}`;
  }

  /** The same for an election. */
  lineOfElection(name: string): string {
    checkPart(name, 'name');
    this.#note(name, 'an election');
    return `${this.#prefix}${name}/`;
  }

  #note(name: string, use: Use): void {
    const before = this.#uses.get(name);
    if (before === use) return;
    if (before !== undefined) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        `'${name}' is ${before} already and cannot be ${use} too; give them names of their own`,
        { details: { name, before, use } },
      );
    }
    if (this.#uses.size < REMEMBERED_MAX) this.#uses.set(name, use);
  }
}

function checkPart(part: unknown, what: string): void {
  const fits = typeof part === 'string' && part.length <= NAME_CHARS_MAX && NAME_FORM.test(part);
  if (fits) return;
  throw invalidOption(
    what,
    part,
    `1 to ${NAME_CHARS_MAX} characters of printable ASCII ('!' to '~') without '/'`,
  );
}
