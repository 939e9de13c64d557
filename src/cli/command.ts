/**
 * What a command of `millrace` is: a name, its options, its help, and a function that runs it.
 *
 * `main.ts` finds the command, `arguments.ts` reads what was typed against its options, the command's own file does
 * the work and answers with an exit code. A command's file is loaded only when it runs, so that help appears at once
 * and also where the native core is missing.
 */

/** Exit codes of the `millrace` command. */
export const ExitCode = {
  DONE: 0,
  /** Tasks failed for good, or something unexpected happened. */
  FAILED: 1,
  /** The command was called in a way that cannot work. */
  USAGE: 2,
  /** The store cannot be used. */
  STORE: 3,
  /** Stopped by a signal, or because nobody reads the output any more. */
  INTERRUPTED: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export interface OptionFact {
  readonly name: string;
  /** What stands for the value in the help; absent for a switch. */
  readonly value?: string;
  /** It may be given without its value, which then is `''`. @defaultValue false */
  readonly isValueOptional?: boolean;
  readonly doc: string;
}

export interface CommandFact {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Positional arguments as the help shows them. */
  readonly usage: string;
  readonly positionalsMin: number;
  readonly positionalsMax: number;
  readonly options: readonly OptionFact[];
  /** Paragraphs below the options. */
  readonly notes: string;
}

/** What was typed, checked against the command's options. */
export interface Arguments {
  readonly positionals: readonly string[];
  /** Values by option name; switches are `'true'`. */
  readonly options: ReadonlyMap<string, string>;
}

export interface Command extends CommandFact {
  /** Loads the command's code. */
  load(): Promise<{ readonly run: (args: Arguments) => Promise<ExitCode> }>;
}

/** Options that every command takes. */
export const COMMON_OPTIONS: readonly OptionFact[] = [
  { name: 'help', doc: 'Show this help.' },
  { name: 'verbose', doc: 'Show the stack of an error.' },
];

/** Options of commands that open a store. */
export const STORE_OPTIONS: readonly OptionFact[] = [
  {
    name: 'store',
    value: 'memory | <folder> | etcd://host:2379/<namespace>',
    doc: "Where tasks are kept; default $MILLRACE_STORE, else '.millrace'.",
  },
  { name: 'etcd-ca', value: 'file', doc: 'Authority of the etcd servers, PEM; makes it TLS.' },
  { name: 'etcd-cert', value: 'file', doc: 'Our certificate for etcd, PEM.' },
  { name: 'etcd-key', value: 'file', doc: 'Its key, PEM.' },
  { name: 'etcd-user', value: 'name', doc: 'etcd user; password in $MILLRACE_ETCD_PASSWORD.' },
];

/** Options of commands that run tasks. */
export const RUNTIME_OPTIONS: readonly OptionFact[] = [
  ...STORE_OPTIONS,
  { name: 'threads', value: 'N', doc: 'Worker threads; default one per core.' },
];
