/**
 * Reads what was typed after the command's name: options against the command's list, positionals by their number.
 *
 * node:util splits the words; the judgement is ours, because a mistyped option deserves its near miss in the answer.
 */
import { parseArgs } from 'node:util';
import { MillraceError } from '../core/errors.js';
import { nearMiss } from '../core/near-miss.js';
import { type Arguments, COMMON_OPTIONS, type CommandFact, type OptionFact } from './command.js';

/** @throws ERR_MILLRACE_INVALID_OPTION for words that the command does not know, want or have enough of */
export function readArguments(command: CommandFact, words: readonly string[]): Arguments {
  const known = [...command.options, ...COMMON_OPTIONS];
  const { tokens } = parseArgs({
    args: withEmptyValues(words, known),
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: {
      ...Object.fromEntries(
        known.map(({ name, value }) => [
          name,
          { type: value === undefined ? 'boolean' : 'string' } as const,
        ]),
      ),
      help: { type: 'boolean', short: 'h' },
    },
  });
  const options = new Map<string, string>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const fact = known.find(({ name }) => name === token.name);
    if (fact === undefined) throw unknownOption(command, token.rawName, known);
    if (options.has(token.name)) throw usage(command, `${token.rawName} is given twice`);
    options.set(token.name, givenValue(command, fact, token.value, token.inlineValue));
  }
  if (!options.has('help')) checkPositionals(command, positionals);
  return { positionals, options };
}

/** A whole number option, or undefined when it is not given. @throws ERR_MILLRACE_INVALID_OPTION */
export function wholeOption(
  args: Arguments,
  name: string,
  { min, max }: { readonly min: number; readonly max: number },
): number | undefined {
  const text = args.options.get(name);
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `--${name} is '${text.slice(0, 40)}'; give a whole number from ${min} to ${max}`,
    { details: { option: name, value: text.slice(0, 200) } },
  );
}

/** The error for a command that was called in a way it does not understand; says where the help is. */
export function usage(command: { readonly name: string } | undefined, fact: string): MillraceError {
  const help = command === undefined ? 'millrace --help' : `millrace ${command.name} --help`;
  return new MillraceError('ERR_MILLRACE_INVALID_OPTION', `${fact}; see: ${help}`);
}

/** Options whose value may be left out, and is, get an empty one: parseArgs would take the next word for it. */
function withEmptyValues(words: readonly string[], known: readonly OptionFact[]): string[] {
  return words.map((word, at) => {
    const next = words[at + 1];
    const isLast = next === undefined || (next.length > 1 && next[0] === '-');
    const fact = known.find(({ name }) => word === `--${name}`);
    return isLast && fact?.isValueOptional ? `${word}=` : word;
  });
}

function givenValue(
  command: CommandFact,
  fact: OptionFact,
  value: string | undefined,
  isInline: boolean | undefined,
): string {
  const option = `--${fact.name}`;
  if (fact.value === undefined) {
    if (value !== undefined) throw usage(command, `${option} takes no value`);
    return 'true';
  }
  // `--store --threads 2`: the value was forgotten. A value that does begin with a dash is given as --store=-x.
  const isForgotten = value === undefined || (!isInline && value.length > 1 && value[0] === '-');
  if (value === '' && fact.isValueOptional) return '';
  if (isForgotten || value === '') throw usage(command, `${option} needs a value (${fact.value})`);
  return value;
}

function unknownOption(
  command: CommandFact,
  rawName: string,
  known: readonly OptionFact[],
): MillraceError {
  const near = nearMiss(
    rawName.replace(/^-+/, ''),
    known.map(({ name }) => name),
  );
  const hint = near === undefined ? '' : `, did you mean --${near}?`;
  return usage(command, `unknown option ${rawName.slice(0, 60)}${hint}`);
}

function checkPositionals(command: CommandFact, positionals: readonly string[]): void {
  const { positionalsMin, positionalsMax } = command;
  if (positionals.length < positionalsMin) throw usage(command, `${command.usage} is missing`);
  if (positionals.length > positionalsMax) {
    throw usage(command, `'${positionals[positionalsMax]?.slice(0, 60)}' is one argument too many`);
  }
}
