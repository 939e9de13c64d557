/**
 * ProcessWarnings: what a runtime says by `process.emitWarning`, since it must reach whoever runs the service also where nobody
 * listens to its channels. Each message once.
 */
import { channel } from 'node:diagnostics_channel';
import type { ChannelPayloads } from './core/channels.js';

/** So many messages of a channel are new, and then it is silent. */
const MESSAGES_MAX = 100;

export class ProcessWarnings {
  readonly #endings: (() => void)[] = [];
  readonly #said = new Map<string, Set<string>>();

  /** Warns of what the channels tell, until `stop`. */
  start(): void {
    this.#follow(
      'millrace:store:corrupt',
      ({ key, cause }) => `${key}: ${cause.message}; it was set aside`,
    );
    this.#follow('millrace:task:unhandled', ({ type }) => unhandled(type));
    this.#follow(
      'millrace:commit:failed',
      ({ cause }) => `the store refuses to write: ${cause.message}`,
    );
  }

  stop(): void {
    for (const end of this.#endings.splice(0)) end();
  }

  /** A type is known to have no handler here before one of its tasks is due. */
  tellUnhandled(type: string): void {
    this.#tell('millrace:task:unhandled', unhandled(type));
  }

  /** The command line finds no way to this process. */
  tellUnreachable(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : String(cause);
    this.#tell(
      'millrace:control:unreachable',
      `the command line cannot reach this process: ${why}`,
    );
  }

  #follow<Name extends keyof ChannelPayloads>(
    name: Name,
    describe: (payload: ChannelPayloads[Name]) => string,
  ): void {
    const listener = (payload: unknown): void =>
      this.#tell(name, describe(payload as ChannelPayloads[Name]));
    const source = channel(name);
    source.subscribe(listener);
    this.#endings.push(() => source.unsubscribe(listener));
  }

  #tell(code: string, message: string): void {
    const said = this.#said.get(code) ?? new Set();
    this.#said.set(code, said);
    if (said.size >= MESSAGES_MAX || said.has(message)) return;
    said.add(message);
    process.emitWarning(message, { type: 'MillraceWarning', code });
  }
}

function unhandled(type: string): string {
  return `task '${type}' has no handler here; what is stored of it waits for a node that has one`;
}
