/**
 * What happened in a run, line by line, and the hash of it: two runs of one seed must have the same.
 */
export class Trace {
  readonly lines: string[] = [];
  readonly #nowMs: () => number;
  readonly #keeps: boolean;
  #hash = 0x811c9dc5;

  constructor(nowMs: () => number, keeps: boolean) {
    this.#nowMs = nowMs;
    this.#keeps = keeps;
  }

  /** FNV-1a over all lines, 32 bits. */
  get hash(): string {
    return this.#hash.toString(16).padStart(8, '0');
  }

  add(line: string): void {
    const text = `${this.#nowMs().toFixed(3)} ${line}`;
    let hash = this.#hash;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    this.#hash = hash >>> 0;
    if (this.#keeps) this.lines.push(text);
  }
}
