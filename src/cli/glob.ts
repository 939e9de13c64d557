/**
 * Glob patterns, as far as shells agree on them:
 *
 *   *  any part of a name      ?  one character      [a-z] [!a-z]  one of a set      {a,b}  one of several
 *   **  as a whole name: any number of folders, none included      \  takes the next character as it is
 *
 * As in shells, what begins with a dot is matched by a dot only, and links to folders are not entered. The walk
 * begins at the deepest folder that has no pattern in its path, and goes no deeper than the pattern does.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { MillraceError } from '../core/errors.js';
import { filesBelow, type WalkOptions } from './folder-walk.js';

const MAGIC = /[*?[{]/;
const NO_LEADING_DOT = '(?!\\.)';

export interface Glob {
  /** The folder where the walk begins, absolute. */
  readonly base: string;
  /** Matches paths below the base, with `/` between names. */
  readonly expression: RegExp;
  /** Folders below the base that a match can lie in, at most. */
  readonly depthMax: number;
}

/** Whether the text has anything that a glob would interpret. */
export function isGlob(text: string): boolean {
  return MAGIC.test(text);
}

/** @throws ERR_MILLRACE_INVALID_OPTION for a brace or bracket that is not closed */
export function parseGlob(pattern: string): Glob {
  const names = pattern.split('/');
  const firstMagic = names.findIndex((name) => MAGIC.test(name) || name.includes('\\'));
  // The last name is matched, never entered, even when it is plain.
  const split = firstMagic === -1 ? names.length - 1 : firstMagic;
  const base = names.slice(0, split).join('/');
  // Braces may hold a path; what they hold is counted as if it came all at once, which is deep enough.
  const rest = names.slice(split);
  return {
    base: path.resolve(base === '' && pattern.startsWith('/') ? '/' : base),
    expression: new RegExp(`^${new Translation(pattern, rest.join('/')).text}$`, 'su'),
    depthMax: rest.some((name) => name.includes('**')) ? Number.POSITIVE_INFINITY : rest.length - 1,
  };
}

/** Absolute paths of the files that match; links to files count as files. */
export async function* filesMatching(glob: Glob, options: WalkOptions): AsyncGenerator<string> {
  const walk = filesBelow(glob.base, { ...options, depthMax: glob.depthMax, withLinks: true });
  for await (const { path: file, isLink } of walk) {
    const relative = path.relative(glob.base, file).replaceAll(path.sep, '/');
    if (!glob.expression.test(relative)) continue;
    if (!isLink || (await leadsToFile(file))) yield file;
  }
}

async function leadsToFile(link: string): Promise<boolean> {
  try {
    return (await stat(link)).isFile();
  } catch {
    return false;
  }
}

/** A pattern as the source of a regular expression, from left to right. */
class Translation {
  /** The regular expression. */
  text = '';
  readonly #whole: string;
  readonly #pattern: string;
  #at = 0;
  #openBraces = 0;
  /** At the beginning of a name, where a wildcard matches no dot. */
  #isNameStart = true;
  readonly #braceStarts: boolean[] = [];

  constructor(whole: string, pattern: string) {
    this.#whole = whole;
    this.#pattern = pattern;
    while (this.#at < pattern.length) this.#next();
    if (this.#openBraces > 0) throw this.#notClosed('{');
  }

  #next(): void {
    const character = String.fromCodePoint(this.#pattern.codePointAt(this.#at)!);
    this.#at += character.length;
    switch (character) {
      case '/':
        this.text += '/';
        this.#isNameStart = true;
        return;
      case '*':
        return this.#star();
      case '?':
        return this.#wildcard('[^/]');
      case '[':
        return this.#wildcard(this.#set());
      case '{':
        this.#openBraces++;
        this.#braceStarts.push(this.#isNameStart);
        this.text += '(?:';
        return;
      case '}':
        if (this.#openBraces === 0) break;
        this.#openBraces--;
        this.#braceStarts.pop();
        this.text += ')';
        this.#isNameStart = false;
        return;
      case ',':
        if (this.#openBraces === 0) break;
        this.text += '|';
        this.#isNameStart = this.#braceStarts.at(-1)!;
        return;
      case '\\':
        return this.#escaped();
    }
    this.#literal(character);
  }

  #literal(character: string): void {
    this.text += character.replace(/[\\^$.*+?()[\]{}|/-]/u, '\\$&');
    this.#isNameStart = false;
  }

  #escaped(): void {
    const code = this.#pattern.codePointAt(this.#at);
    const character = code === undefined ? '\\' : String.fromCodePoint(code);
    this.#at += code === undefined ? 0 : character.length;
    this.#literal(character);
  }

  #star(): void {
    const pattern = this.#pattern;
    const start = this.#at - 1;
    while (pattern[this.#at] === '*') this.#at++;
    const isWholeName =
      this.#at - start === 2 && this.#isNameStart && /^[/,}]?$/.test(pattern[this.#at] ?? '');
    if (!isWholeName) return this.#wildcard('[^/]*');
    if (pattern[this.#at] === '/') {
      // `**/`, also several in a row: they say no more than one.
      while (pattern.startsWith('/**/', this.#at)) this.#at += 3;
      this.#at++;
      this.text += `(?:${NO_LEADING_DOT}[^/]+/)*`;
    } else {
      this.text += `(?:${NO_LEADING_DOT}[^/]+/)*${NO_LEADING_DOT}[^/]+`;
      this.#isNameStart = false;
    }
  }

  #wildcard(expression: string): void {
    this.text += (this.#isNameStart ? NO_LEADING_DOT : '') + expression;
    this.#isNameStart = false;
  }

  /** `[...]` after its opening bracket. A `]` that comes first is one of the set. */
  #set(): string {
    const pattern = this.#pattern;
    const isNegated = pattern[this.#at] === '!' || pattern[this.#at] === '^';
    const from = this.#at + (isNegated ? 1 : 0);
    const end = pattern.indexOf(']', from + 1);
    if (end === -1) throw this.#notClosed('[');
    this.#at = end + 1;
    const members = pattern.slice(from, end).replaceAll(/[\\\][^&~|]/g, '\\$&');
    // A set never matches what divides names.
    return `(?!/)[${isNegated ? '^' : ''}${members}]`;
  }

  #notClosed(bracket: string): MillraceError {
    return new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      `the pattern '${this.#whole.slice(0, 200)}' opens '${bracket}' and does not close it; write \\${bracket} for the character itself`,
      { details: { pattern: this.#whole.slice(0, 200) } },
    );
  }
}
