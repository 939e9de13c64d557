/**
 * Sockets in a directory, however deep that is: paths of sockets end at about 100 bytes, and Linux reaches longer ones
 * through the directory's descriptor.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import path from 'node:path';

/** sun_path has 104 bytes on macOS and 108 on Linux, with the final zero. */
const SOCKET_PATH_BYTES_MAX = 103;

/** Linux: names what a descriptor of this process stands for. */
const DESCRIPTORS = '/proc/self/fd';

/** Short paths for the sockets of a directory; closed when none of them is used any more. */
export class SocketFolder {
  readonly #directory: string;
  readonly #descriptor: number | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.#descriptor = existsSync(DESCRIPTORS) ? openSync(directory, 'r') : undefined;
  }

  /** @throws when there is no path of that socket that is short enough */
  path(name: string): string {
    if (this.#descriptor !== undefined) return `${DESCRIPTORS}/${this.#descriptor}/${name}`;
    const full = path.join(this.#directory, name);
    if (Buffer.byteLength(full) <= SOCKET_PATH_BYTES_MAX) return full;
    throw new Error(`the path is longer than a socket's may be (${SOCKET_PATH_BYTES_MAX} bytes)`);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
  }
}
