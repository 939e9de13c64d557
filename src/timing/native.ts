/**
 * The native core, loaded once per thread: the only place that touches the .node file.
 *
 * The binary is looked for in build/Release (a local build) and prebuilds/<platform>-<arch> (what was
 * shipped), in this order, by node-gyp-build. It is loaded when this module is, so an installation without a
 * usable binary fails at `import 'millrace'` and not at the first timer.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../core/errors.js';

/** The folder with package.json; this file runs as dist/src/timing/native.js. */
const PACKAGE_DIRECTORY: string = fileURLToPath(new URL('../../../', import.meta.url));

/**
 * Loads the native core that belongs to a package directory.
 *
 * @throws ERR_MILLRACE_NATIVE_MISSING if there is none for this platform, or it does not load here
 */
export function loadNative(packageDirectory: string): unknown {
  const require = createRequire(import.meta.url);
  try {
    const load = require('node-gyp-build') as (directory: string) => unknown;
    return load(packageDirectory);
  } catch (cause) {
    const platform = `${process.platform}-${process.arch}`;
    throw new MillraceError(
      'ERR_MILLRACE_NATIVE_MISSING',
      `no native core for ${platform} loads from ${packageDirectory}; ` +
        `build the shipped sources with: npx node-gyp rebuild -C ${packageDirectory}`,
      { details: { platform, packageDirectory }, cause },
    );
  }
}

/** A queue inside the native core; only ever handed back to it. */
export type NativeQueue = { readonly __nativeQueue: unique symbol };

/** What native/binding.cc exports. It trusts its arguments; the classes of this folder check them. */
export interface NativeCore {
  /** A queue over shared memory, whose layout native/binding.cc draws. */
  create(control: ArrayBuffer, commands: ArrayBuffer): NativeQueue;
  /** Gives it a chunk of records; false if the generations of this chunk are used up. */
  attach(queue: NativeQueue, chunk: number, words: Int32Array): boolean;
  /** Takes back a chunk that has no record in use. */
  detach(queue: NativeQueue, chunk: number): void;
  /** Takes in the buffered commands. */
  flush(queue: NativeQueue): void;
  /** Takes in the buffered commands, moves time, and returns how many tokens it wrote. */
  advance(queue: NativeQueue, nowMs: number, out: Uint32Array): number;
  /** Frees the queue's memory; no other call may follow. */
  close(queue: NativeQueue): void;
}

/** The native core of this thread. */
export const native: NativeCore = loadNative(PACKAGE_DIRECTORY) as NativeCore;
