/**
 * Subscriptions of one watcher, ended together. Where an event names the runtime it is from, only those of the own one
 * are heard: two runtimes in one process share the channels, and not their figures.
 */
import { channel } from 'node:diagnostics_channel';
import type { ChannelName, ChannelPayloads } from './channels.js';

export class Subscriptions {
  readonly #incarnation: string;
  readonly #end: (() => void)[] = [];

  constructor(incarnation: string) {
    this.#incarnation = incarnation;
  }

  on<Name extends ChannelName>(
    name: Name,
    listener: (payload: ChannelPayloads[Name]) => void,
  ): void {
    const source = channel(name);
    const heard = (payload: unknown): void => {
      const { incarnation } = payload as { incarnation?: string };
      if (incarnation === undefined || incarnation === this.#incarnation) {
        listener(payload as ChannelPayloads[Name]);
      }
    };
    source.subscribe(heard);
    this.#end.push(() => source.unsubscribe(heard));
  }

  close(): void {
    for (const end of this.#end.splice(0)) end();
  }
}
