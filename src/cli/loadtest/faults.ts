/**
 * What goes wrong during a load, on purpose: one fault after another, each a fixed time after the one before is over, until
 * nothing arrives any more.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../core/random.js';
import { sharedNowMs } from './arrivals.js';
import type { EtcdLeader } from './etcd-leader.js';
import type { Fleet } from './fleet.js';
import type { Fault, TaskLoad } from './load.js';

export interface FaultRecord {
  readonly fault: Fault;
  /** Seconds since the load began. */
  readonly atSeconds: number;
  /** What was done, or why it was not. */
  readonly result: string;
}

/** Longer than a session's ttl of 15 s: others have taken over when it wakes. */
const PAUSE_MS = 20_000;

export class Faults {
  readonly records: FaultRecord[] = [];
  readonly #load: TaskLoad;
  readonly #parts: {
    readonly fleet: Fleet;
    readonly leader: Pick<EtcdLeader, 'kill'>;
    readonly random: Random;
  };

  constructor(
    load: TaskLoad,
    parts: {
      readonly fleet: Fleet;
      readonly leader: Pick<EtcdLeader, 'kill'>;
      readonly random: Random;
    },
  ) {
    this.#load = load;
    this.#parts = parts;
  }

  /** Resolves once the signal says stop and what was harmed is whole again. */
  async run(startMs: number, signal: AbortSignal): Promise<void> {
    const { faults, faultEveryMs } = this.#load;
    for (let i = 0; faults.length > 0 && !signal.aborted; i++) {
      await sleep(faultEveryMs, undefined, { signal }).catch(() => {});
      if (!signal.aborted) await this.#act(faults[i % faults.length]!, startMs);
    }
  }

  async #act(fault: Fault, startMs: number): Promise<void> {
    const atSeconds = (sharedNowMs() - startMs) / 1_000;
    const result = await this.#harm(fault).catch((error: Error) => `failed: ${error.message}`);
    this.records.push({ fault, atSeconds, result });
  }

  #harm(fault: Fault): Promise<string> {
    const { fleet, leader, random } = this.#parts;
    switch (fault) {
      case 'kill':
        return fleet.kill(random.float());
      case 'pause':
        return fleet.pause(random.float(), PAUSE_MS);
      case 'leader-kill':
        return leader.kill();
    }
  }
}
