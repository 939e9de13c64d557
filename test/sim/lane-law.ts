/**
 * The law of one writer: whoever moved the head last may write, and nobody who lost it writes again.
 */
import { utf8 } from '../../src/core/frame.js';
import type { AppliedWrites, Law } from './law.js';
import type { Oracle } from './oracle.js';
import type { SimNode } from './sim-node.js';

export class LaneLaw implements Law {
  readonly isShared = false;
  readonly #violate: Oracle['violate'];
  /** Incarnations that have written the lane's head, in order. */
  readonly #writers: string[] = [];

  constructor(violate: Oracle['violate']) {
    this.#violate = violate;
  }

  judge({ writes, node }: AppliedWrites): void {
    const heads = writes.filter(({ key }) => key.startsWith('h/'));
    for (const { value } of heads) if (value !== undefined) this.#onHead(value, node);
    // The format of the store is said once, before anything else; cron entries by whoever is asked.
    const puts = writes.filter(({ key, value }) => value !== undefined && !/^[ve]\//.test(key));
    if (heads.length === 0 && puts.length > 0) {
      this.#violate('S5', `${node.name} writes past its lane: ${puts[0]!.key}`);
    }
  }

  fenced(node: SimNode): void {
    if (this.#writers.at(-1) === node.incarnation) {
      this.#violate('S5', `${node.name} was the last to write and thinks that it is fenced`);
    }
  }

  epochOf(): undefined {}

  sessionOf(): undefined {}

  hasOutlivedItsLease(): boolean {
    return false;
  }

  #onHead(value: Uint8Array, node: SimNode): void {
    const { incarnation } = JSON.parse(utf8(value)) as { incarnation: string };
    if (this.#writers.at(-1) === incarnation) return;
    if (this.#writers.includes(incarnation)) {
      this.#violate('S5', `${node.name} writes after ${this.#writers.at(-1)} took the lane`);
    }
    if (this.#writers.length > 0) node.count('lane taken over');
    this.#writers.push(incarnation);
  }
}
