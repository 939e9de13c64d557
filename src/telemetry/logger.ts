/**
 * Loggers: what millrace needs of one, and pino when the host brings none.
 *
 * Pino is an optional peer: a service that has pino keeps its version and its one copy, one that logs with something
 * else installs nothing. Whatever is handed in only needs the five methods that pino, bunyan, loglevel and console
 * share, called as pino calls them: fields first, then the message.
 */
import { MillraceError } from '../core/errors.js';
import { invalidOption } from '../core/options.js';

/** Writes one line: fields, and a message. */
export type LogWrite = (fields: object, message: string) => void;

/** What a logger has to have. Pino has it. */
export interface Logger {
  readonly trace: LogWrite;
  readonly debug: LogWrite;
  readonly info: LogWrite;
  readonly warn: LogWrite;
  readonly error: LogWrite;
  /** Without it, `error` gets these lines. */
  readonly fatal?: LogWrite;
  /** Asked before a line is built; without it, every line is. */
  isLevelEnabled?(level: string): boolean;
}

/** A logger, and how to end it if it is ours. */
export interface OpenLogger {
  readonly logger: Logger;
  /** Writes what is buffered; the logger still works afterwards. */
  flush(): void;
}

const METHODS = ['trace', 'debug', 'info', 'warn', 'error'] as const;

/** @throws ERR_MILLRACE_INVALID_OPTION unless it is `true`, `false` or a logger */
export function checkLogger(value: unknown): Logger | boolean {
  if (typeof value === 'boolean') return value;
  const isLogger =
    typeof value === 'object' &&
    value !== null &&
    METHODS.every((name) => typeof (value as Record<string, unknown>)[name] === 'function');
  if (isLogger) return value as Logger;
  throw invalidOption(
    'logger',
    value,
    'a pino logger (or another one with trace, debug, info, warn and error), true or false',
  );
}

/**
 * The logger itself, or a pino that writes to standard output.
 *
 * @param isSync - whether a line is on its way when its call returns; ours is buffered otherwise
 * @throws ERR_MILLRACE_INVALID_OPTION when pino is wanted and not installed
 */
export async function openLogger(logger: Logger | true, isSync: boolean): Promise<OpenLogger> {
  if (logger !== true) return { logger, flush: () => {} };
  const { pino } = await import('pino').catch((cause: unknown) => {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      'logger is true, and pino is not installed; run: npm install pino, or give a logger of your own',
      { details: { option: 'logger' }, cause },
    );
  });
  const destination = pino.destination({ dest: 1, sync: isSync });
  return {
    logger: pino({ name: 'millrace' }, destination),
    flush: () => {
      try {
        destination.flushSync();
      } catch {
        // Not open yet, so nothing is buffered; pino writes the rest when the process ends.
      }
    },
  };
}
