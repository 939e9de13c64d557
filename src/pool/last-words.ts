/**
 * Log lines of a thread that have not been sent, in memory that the pool sees too: a thread that is killed while it computes
 * sends nothing any more, and what it said last is what one wants to know.
 *
 *   [0] i32 bytes used behind it   [4] per line: u32 byte length, UTF-8
 *
 * Lines are added before they are sent and cleared after, so none is lost, and one may come twice if the thread dies between
 * the two. The length is stored last: what is behind it does not count. Read when the thread is gone.
 */
const HEAD_BYTES = 4;
/** More than the longest line. */
const WORDS_BYTES = 65_536;

export class LastWords {
  readonly memory: SharedArrayBuffer;
  readonly #used: Int32Array;
  readonly #bytes: Buffer;

  /** @param memory - of another's; by default its own */
  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(HEAD_BYTES + WORDS_BYTES)) {
    this.memory = memory;
    this.#used = new Int32Array(memory, 0, 1);
    this.#bytes = Buffer.from(memory, HEAD_BYTES);
  }

  /** @returns whether there was room */
  add(line: string): boolean {
    const at = this.#used[0]!;
    const length = Buffer.byteLength(line);
    if (at + 4 + length > this.#bytes.length) return false;
    this.#bytes.writeUInt32LE(length, at);
    this.#bytes.write(line, at + 4, length, 'utf8');
    Atomics.store(this.#used, 0, at + 4 + length);
    return true;
  }

  clear(): void {
    Atomics.store(this.#used, 0, 0);
  }

  /** What is there, in order. */
  read(): string[] {
    const end = Math.min(Atomics.load(this.#used, 0), this.#bytes.length);
    const lines: string[] = [];
    for (let at = 0; at + 4 <= end; ) {
      const to = at + 4 + this.#bytes.readUInt32LE(at);
      if (to > end) break;
      lines.push(this.#bytes.toString('utf8', at + 4, to));
      at = to;
    }
    return lines;
  }
}
