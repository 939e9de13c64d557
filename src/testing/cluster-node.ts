/**
 * One node of a simulated cluster: a runtime in a process of its own, and what a test can do to that process.
 */
import type { Runtime } from '../runtime.js';
import type { SimConnection } from './sim-connection.js';
import type { SimProcess } from './world.js';

export class ClusterNode {
  /** `node 1`, `node 2` and so on, in the order of joining. */
  readonly name: string;
  /**
   * Its runtime. That of a node which is dead never answers: what you await of it stays open for ever, as in a process
   * that is gone.
   */
  readonly runtime: Runtime;
  readonly #process: SimProcess;
  readonly #connection: SimConnection;

  /** Nodes come from {@link Cluster.join}. */
  constructor(parts: {
    readonly name: string;
    readonly runtime: Runtime;
    readonly process: SimProcess;
    readonly connection: SimConnection;
  }) {
    this.name = parts.name;
    this.runtime = parts.runtime;
    this.#process = parts.process;
    this.#connection = parts.connection;
  }

  /** Whether it has been neither killed nor closed. */
  get isAlive(): boolean {
    return this.#process.isAlive;
  }

  /** Ends the process at once, as `kill -9` does. What it had sent to the store is under way all the same. */
  kill(): void {
    this.#process.kill();
    this.#connection.kill();
  }

  /** Stops the process where it is, as SIGSTOP or a very long garbage collection does. */
  pause(): void {
    this.#process.pause();
  }

  /** Lets it go on; everything that it missed comes in a burst. */
  resume(): void {
    this.#process.resume();
  }

  /** Cuts it off from the store: nothing arrives there, and nothing comes back. */
  partition(): void {
    this.#connection.partition();
  }

  /** Ends the partition. */
  heal(): void {
    this.#connection.heal();
  }

  /** Moves its wall clock alone, in ms, either way; what it waits for counts on another clock. */
  jumpClock(ms: number): void {
    this.#process.jumpWall(ms);
  }

  /** Ends its lease, as an operator could: the others take it for dead, and it is told at its next renewal. */
  loseLease(): Promise<void> {
    return this.#connection.loseLeases();
  }

  /** Leaves gently: hands over what waits, and lets what runs come to its end. Await it in {@link Cluster.run}. */
  async close(): Promise<void> {
    if (!this.isAlive) return;
    await this.runtime.close();
    this.kill();
  }
}
