/**
 * Why a task is not running, by what the store alone says: for tasks that this node does not hold, and for whoever reads
 * the store from outside.
 */
import { ALL_HEARTBEATS, heartbeatOf } from '../coordination/heartbeats.js';
import { ALL_MEMBERS, type Member, memberOf } from '../coordination/members.js';
import { ownerKey } from '../coordination/shard-map.js';
import { formatMs, roughMs } from '../core/durations.js';
import type { Store } from '../core/store.js';
import type { Explanation } from './explanation.js';
import type { TaskInspection } from './inspection.js';
import { type Pause, pauseOf, storedPauses } from './pauses.js';
import type { RateWait } from './rates/rate-limits.js';

/**
 * @param nowMs - wall clock
 * @throws ERR_MILLRACE_STORE_UNAVAILABLE
 */
export async function explainStored(
  store: Store,
  task: TaskInspection,
  nowMs: number,
): Promise<Explanation> {
  const { status, executor, dueAtMs = 0, attempt } = task;
  if (status === 'pending' && dueAtMs > nowMs) return delayed('delayed', dueAtMs, attempt, nowMs);
  if (status === 'running') return running(executor ?? '', task.changedAtMs ?? 0, nowMs);
  if (status !== 'pending') {
    return { reason: 'ended', status, message: `it is ${status}` };
  }
  const { queue, shard, tenant, task: type = '' } = task;
  const pause = pauseOf(await storedPauses(store), { task: type, queue, tenant });
  if (pause !== undefined) return paused(pause, nowMs);
  const owner = await store.get(ownerKey({ queue, shard }));
  const members = (await store.range(ALL_MEMBERS)).entries.map(memberOf);
  const ofQueue = members.filter(({ record }) => listOf(record.queues).includes(queue));
  if (ofQueue.length === 0) return noNode(queue);
  if (!ofQueue.some(({ record }) => listOf(record.tasks).includes(type))) {
    return noCapableNode(type);
  }
  const node = owner && Buffer.from(owner.value).toString();
  const holder = ofQueue.find((member) => member.node === node);
  if (holder === undefined || !listOf(holder.record.tasks).includes(type)) return moving(type);
  return otherNode(store, holder);
}

export function delayed(
  reason: 'delayed' | 'far',
  dueAtMs: number,
  attempt: number,
  nowMs: number,
): Explanation {
  const again = attempt > 0 ? `; ${attempt} of its attempts are over` : '';
  const far = reason === 'far' ? ', and is in the store only until it is near' : '';
  return {
    reason,
    dueAtMs,
    attempt,
    message: `it is due in ${roughMs(dueAtMs - nowMs)}${far}${again}`,
  };
}

export function running(executor: string, sinceMs: number, nowMs: number): Explanation {
  const forMs = Math.max(0, nowMs - sinceMs);
  return {
    reason: 'running',
    executor,
    sinceMs,
    message: `it runs: process ${executor} claimed it ${roughMs(forMs)} ago`,
  };
}

export function paused({ kind, name, sinceMs }: Pause, nowMs: number): Explanation {
  return {
    reason: 'paused',
    kind,
    name,
    sinceMs,
    message: `${kind} '${name}' rests since ${roughMs(nowMs - sinceMs)}, until somebody resumes it`,
  };
}

export function rateLimited(
  { spec: { limit, perMs, by }, inMs }: RateWait,
  of: { readonly task: string; readonly tenant: string | undefined; readonly ready: number },
  nowMs: number,
): Explanation {
  const rate = `${limit} in ${formatMs(perMs)}`;
  const whose = by === 'task' ? `'${of.task}'` : `tenant '${of.tenant ?? ''}'`;
  const next =
    inMs === undefined
      ? 'this node is about to get its share of that'
      : `the next may begin here in ${roughMs(inMs)}`;
  return {
    reason: 'rate-limited',
    by,
    limit,
    perMs,
    untilMs: inMs === undefined ? undefined : nowMs + Math.ceil(inMs),
    ready: of.ready,
    message: `${whose} is at its rate of ${rate}: ${next}, and ${of.ready} of '${of.task}' wait`,
  };
}

export function noCapableNode(task: string): Explanation {
  return {
    reason: 'no-capable-node',
    task,
    message: `no process that is there has a handler of '${task}'; start one whose tasks module has it`,
  };
}

export function moving(task: string): Explanation {
  return {
    reason: 'moving',
    task,
    message: `its shard is on its way to a process that runs '${task}'; ask again in a few seconds`,
  };
}

function noNode(queue: string): Explanation {
  return {
    reason: 'no-node',
    queue,
    message: `no process that runs tasks of queue '${queue}' is there; start one`,
  };
}

async function otherNode(store: Store, { node, record }: Member): Promise<Explanation> {
  const beats = (await store.range(ALL_HEARTBEATS)).entries.map(heartbeatOf);
  const load = beats.find((beat) => beat.node === node)?.load;
  const host = hostOf(record);
  const who = `process ${node}${host === undefined ? '' : ` (${host})`}`;
  const does =
    load === undefined
      ? ''
      : `: ${load.ready} of its tasks are due and wait, ${load.running} run, it has ${load.freePlaces} free places`;
  return {
    reason: 'other-node',
    node,
    host,
    ready: load?.ready,
    running: load?.running,
    freePlaces: load?.freePlaces,
    message: `${who} holds it${does}`,
  };
}

/** Host and process, as a member says them. */
export function hostOf({ host, pid }: Member['record']): string | undefined {
  return typeof host === 'string' ? `${host}:${String(pid)}` : undefined;
}

function listOf(given: unknown): readonly unknown[] {
  return Array.isArray(given) ? given : [];
}
