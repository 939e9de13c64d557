/**
 * The processes of a load of tasks, by store.
 *
 *   etcd      this process submits as a client; `--nodes` processes run the tasks
 *   others    one process has the store, so this one submits and runs
 */
import { getRandomValues } from 'node:crypto';
import { MillraceError } from '../../core/errors.js';
import { seededRandom } from '../../core/random.js';
import { createClient, createRuntime } from '../../millrace.js';
import type { StoreFactory } from '../../store/index.js';
import { WatchCanary } from '../../store/watch-canary.js';
import { systemClock } from '../../timing/system-clock.js';
import type { Arguments } from '../command.js';
import { EtcdLeader } from './etcd-leader.js';
import { type FaultRecord, Faults } from './faults.js';
import { Fleet } from './fleet.js';
import type { TaskLoad } from './load.js';
import { work } from './load-tasks.js';
import type { ProcessReport } from './process-report.js';
import type { Submitter } from './task-run.js';

/** Everything that a run needs and that differs by store. */
export interface Stage {
  readonly submitter: Submitter;
  begin(startMs: number): void;
  /** Resolves when the signal has said stop and nothing is harmed any more. */
  harm(startMs: number, signal: AbortSignal): Promise<readonly FaultRecord[]>;
  /** Ends everything. @returns what the other processes were like */
  close(): Promise<readonly ProcessReport[]>;
}

/** Writes of a key of its own, to see how late watches are. */
const CANARY_MS = 1_000;

/** @throws ERR_MILLRACE_INVALID_OPTION for what needs a store that processes share */
export function openStage(
  load: TaskLoad,
  { store, args }: { readonly store: StoreFactory; readonly args: Arguments },
): Promise<Stage> {
  return store.kind === 'etcd' ? openShared(load, store, args) : openAlone(load, store);
}

async function openAlone(load: TaskLoad, store: StoreFactory): Promise<Stage> {
  const only = load.nodes > 1 ? '--nodes' : load.faults.length > 0 ? '--faults' : undefined;
  if (only !== undefined) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      `${only} needs processes that share the store, and ${store.location} is one process's own; give --store etcd://host:2379/<namespace>`,
    );
  }
  const runtime = await createRuntime({
    tasks: new URL('./load-tasks.js', import.meta.url),
    store,
    ...(load.threads !== undefined && { threads: { max: load.threads } }),
  });
  return {
    submitter: runtime,
    begin: () => {},
    harm: async () => [],
    close: async () => {
      await runtime.close();
      return [];
    },
  };
}

async function openShared(load: TaskLoad, store: StoreFactory, args: Arguments): Promise<Stage> {
  const fleet = new Fleet(load.nodes, { options: [...args.options], threads: load.threads });
  const view = await store.open({ clock: systemClock });
  const canary = new WatchCanary(systemClock, view, {
    key: `loadtest/canary/${process.pid}`,
    everyMs: CANARY_MS,
  });
  const random = seededRandom(getRandomValues(new Uint32Array(4)));
  try {
    await fleet.start();
    const client = await createClient({ store, tasks: [work] });
    await canary.start();
    const leader = new EtcdLeader(store.location, args.options);
    const faults = new Faults(load, { fleet, leader, random });
    let closed: Promise<readonly ProcessReport[]> | undefined;
    const close = async (): Promise<readonly ProcessReport[]> => {
      await client.close();
      await fleet.stop();
      await canary.stop();
      await view.close();
      return fleet.reports();
    };
    return {
      submitter: client,
      begin: (startMs) => fleet.begin(startMs),
      harm: async (startMs, signal) => {
        await faults.run(startMs, signal);
        return faults.records;
      },
      close: () => {
        closed ??= close();
        return closed;
      },
    };
  } catch (error) {
    await fleet.stop();
    await view.close();
    throw error;
  }
}
