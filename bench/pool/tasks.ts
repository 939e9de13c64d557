/**
 * The tasks of the bench and their inputs; every contender's threads import this very file.
 *
 * Burning CPU is WebAssembly, assembled by hand: V8 inlines a JavaScript body into a batch's loop and not into a message
 * handler, and then the two are not the same work. How many turns of it take a microsecond is measured in each process.
 *
 * Each result tells its input's number, so that no contender can lose, double or mix up tasks unseen.
 */

/** An input as it is sent: about 100 bytes as JSON. */
export interface Job {
  readonly id: number;
  /** Turns of the CPU body; -1 for ever. */
  readonly turns: number;
  readonly text: string;
}

/** A buffer's number is in its first four bytes. */
export type Input = Job | Uint8Array;

/** What a task does. */
export function handle(input: Input): number {
  if (input instanceof Uint8Array) {
    return new DataView(input.buffer, input.byteOffset, input.byteLength).getUint32(0, true);
  }
  if (input.turns > 0) spin(input.turns);
  while (input.turns < 0);
  return input.id;
}

/** A batch made by hand. */
export function handleAll(inputs: readonly Input[]): number[] {
  return inputs.map(handle);
}

export default handle;

const JSON_BYTES = 100;
const BUFFER_BYTES = 4_096;
/** A whole number of hand-made batches. */
export const INPUTS = 1_024;

/** Different ones, so that nobody can tell they are the same. Number i is input i. */
export function makeJobs(turns: number): readonly Job[] {
  return Array.from({ length: INPUTS }, (_, id) => {
    const bare = JSON.stringify({ id, turns, text: '' }).length;
    return { id, turns, text: `${id}-`.repeat(JSON_BYTES).slice(0, JSON_BYTES - bare) };
  });
}

export function makeBuffers(): readonly Uint8Array[] {
  return Array.from({ length: INPUTS }, (_, id) => {
    const bytes = new Uint8Array(BUFFER_BYTES).fill(id);
    new DataView(bytes.buffer).setUint32(0, id, true);
    return bytes;
  });
}

/**
 * (func (export "spin") (param i32) (result i32) (local i32)): a xorshift generator, so many turns of it.
 *
 *   x = 1; do { x ^= x << 13; x ^= x >>> 17; x ^= x << 5 } while (--turns); return x
 */
// biome-ignore format: one line per section and per statement
const MODULE = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
  1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f, // types: (i32) -> i32
  3, 2, 1, 0, // functions: one, of that type
  7, 8, 1, 4, 0x73, 0x70, 0x69, 0x6e, 0, 0, // exports: "spin"
  10, 50, 1, 48, 1, 1, 0x7f, // code: one body with a local i32, x
  0x41, 1, 0x21, 1, // x = 1
  0x03, 0x7f, // loop
  0x20, 1, 0x20, 1, 0x41, 13, 0x74, 0x73, 0x22, 1, // x ^= x << 13
  0x20, 1, 0x41, 17, 0x76, 0x73, 0x22, 1, // x ^= x >>> 17
  0x20, 1, 0x41, 5, 0x74, 0x73, 0x21, 1, // x ^= x << 5
  0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, // while (--turns)
  0x20, 1, 0x0b, 0x0b, // return x
]);

/** The types of Node 20 do not have it. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: { spin(turns: number): number } };
};

const { exports } = new WebAssembly.Instance(new WebAssembly.Module(MODULE));
const { spin } = exports;

const CALIBRATION_TURNS = 1_000_000;
const CALIBRATIONS = 25;

/** Turns per microsecond on a CPU that does nothing else: the fastest of several goes. */
export function calibrate(): number {
  spin(CALIBRATION_TURNS);
  let shortestMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < CALIBRATIONS; i++) {
    const startedAtMs = performance.now();
    spin(CALIBRATION_TURNS);
    shortestMs = Math.min(shortestMs, performance.now() - startedAtMs);
  }
  return CALIBRATION_TURNS / (shortestMs * 1_000);
}
