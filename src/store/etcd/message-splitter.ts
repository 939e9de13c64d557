/**
 * Cuts the bytes of a gRPC stream into messages: a prefix of 5 bytes (flag, length), then the body, over and over.
 * Chunks end where they like. A body inside one chunk is a view of it; one that spans chunks is put together once.
 */
import { PREFIX_BYTES } from './protobuf.js';

/** What is accepted in one message: etcd's own requests end at 1.5 MiB, but a range or a watch may answer with more. */
export const MESSAGE_BYTES_MAX: number = 16 * 1_024 * 1_024;

/** Bytes that are no gRPC, or a message over the limit. Internal. */
export class FramingError extends Error {
  override readonly name = 'FramingError';
  readonly isTooLarge: boolean;

  constructor(message: string, isTooLarge = false) {
    super(message);
    this.isTooLarge = isTooLarge;
  }
}

export class MessageSplitter {
  readonly #onMessage: (body: Uint8Array) => void;
  /** Made when a prefix spans chunks, which is rare: most calls are answered in one chunk. */
  #prefix: Buffer | undefined;
  #prefixFill = 0;
  /** The body that has begun, when it spans chunks. */
  #body: Buffer | undefined;
  #bodyFill = 0;

  constructor(onMessage: (body: Uint8Array) => void) {
    this.#onMessage = onMessage;
  }

  /** Whether a message has begun and not ended: at the end of a stream that is an error. */
  get isInside(): boolean {
    return this.#prefixFill > 0;
  }

  /** @throws FramingError; nothing may be pushed after it */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#body !== undefined) {
        const take = Math.min(this.#body.length - this.#bodyFill, chunk.length - at);
        chunk.copy(this.#body, this.#bodyFill, at, at + take);
        this.#bodyFill += take;
        at += take;
        if (this.#bodyFill === this.#body.length) this.#emit(this.#body);
        continue;
      }
      let length: number;
      if (this.#prefixFill === 0 && chunk.length - at >= PREFIX_BYTES) {
        this.#prefixFill = PREFIX_BYTES;
        length = bodyLength(chunk, at);
        at += PREFIX_BYTES;
      } else {
        this.#prefix ??= Buffer.allocUnsafe(PREFIX_BYTES);
        const take = Math.min(PREFIX_BYTES - this.#prefixFill, chunk.length - at);
        chunk.copy(this.#prefix, this.#prefixFill, at, at + take);
        this.#prefixFill += take;
        at += take;
        if (this.#prefixFill < PREFIX_BYTES) return;
        length = bodyLength(this.#prefix, 0);
      }
      if (at + length <= chunk.length) {
        this.#emit(chunk.subarray(at, at + length));
        at += length;
      } else {
        this.#body = Buffer.allocUnsafe(length);
      }
    }
  }

  #emit(body: Buffer): void {
    this.#prefixFill = 0;
    this.#bodyFill = 0;
    this.#body = undefined;
    this.#onMessage(body);
  }
}

/** @throws FramingError */
function bodyLength(bytes: Buffer, at: number): number {
  const flag = bytes[at];
  if (flag !== 0) {
    throw new FramingError(`message flag is ${flag}, where 0 (not compressed) is due`);
  }
  const length = bytes.readUInt32BE(at + 1);
  if (length <= MESSAGE_BYTES_MAX) return length;
  throw new FramingError(
    `a message has ${length} bytes, above the limit of ${MESSAGE_BYTES_MAX}; read in smaller pages`,
    true,
  );
}
