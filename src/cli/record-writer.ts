/**
 * Results as NDJSON on a stream, no faster than its reader reads.
 */
import { once } from 'node:events';
import type { Writable } from 'node:stream';

export class RecordWriter {
  readonly #stream: Writable;
  #roomAgain: Promise<unknown> | undefined;
  #isReaderGone = false;

  /** @param onReaderGone - called once when nobody reads any more (EPIPE) */
  constructor(stream: Writable, onReaderGone: () => void) {
    this.#stream = stream;
    stream.once('error', () => {
      this.#isReaderGone = true;
      onReaderGone();
    });
  }

  /** Resolves when the stream takes more. Never rejects: what nobody reads is dropped. */
  async write(record: Readonly<Record<string, unknown>>): Promise<void> {
    if (this.#isReaderGone) return;
    const hasRoom = this.#stream.write(`${JSON.stringify(record)}\n`);
    if (hasRoom || this.#isReaderGone) return;
    // All writers wait for the same event.
    this.#roomAgain ??= once(this.#stream, 'drain')
      .catch(() => {})
      .finally(() => {
        this.#roomAgain = undefined;
      });
    await this.#roomAgain;
  }
}
