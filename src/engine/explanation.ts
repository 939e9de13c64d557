/**
 * Explanation: why a task is not running, as an answer for people (`message`) and for programs (`reason`, and what
 * belongs to it). The first reason that applies is told, from the task outwards: itself, its type, this node, the others.
 */
import type { ConcurrencyRange } from '../core/concurrency.js';
import type { TaskStatus } from '../core/states.js';

/** Why a task is not running. Times are epoch ms. */
export type Explanation = { readonly message: string } & (
  | { readonly reason: 'ended'; readonly status: TaskStatus }
  /** It has ended, and the commit that says so is under way. */
  | { readonly reason: 'ending' }
  | { readonly reason: 'running'; readonly executor: string; readonly sinceMs: number }
  /** Claimed in the store; its batch waits for the commit, or for a free thread. */
  | { readonly reason: 'claimed' }
  | { readonly reason: 'delayed'; readonly dueAtMs: number; readonly attempt: number }
  /** Delayed for so long that it is in the store only. */
  | { readonly reason: 'far'; readonly dueAtMs: number; readonly attempt: number }
  /** Its type, queue or tenant rests until somebody resumes it. */
  | {
      readonly reason: 'paused';
      readonly kind: 'task' | 'queue' | 'tenant';
      readonly name: string;
      readonly sinceMs: number;
    }
  /** Its type is at its `concurrency` here. */
  | {
      readonly reason: 'concurrency';
      readonly limit: number;
      readonly running: number;
      /** The bounds of a limit that adapts. */
      readonly adaptive?: ConcurrencyRange;
    }
  /** Others with its `concurrencyKey` run, as many as may, or are ready before it. */
  | { readonly reason: 'concurrency-key'; readonly limit: number }
  /** Its type, or its tenant, has begun as many executions as its `rate` allows. */
  | {
      readonly reason: 'rate-limited';
      readonly by: 'task' | 'tenant';
      readonly limit: number;
      readonly perMs: number;
      /** When the next one may begin there; undefined: the node has no share of the rate yet. */
      readonly untilMs: number | undefined;
      /** How many of its type are due there. */
      readonly ready: number;
    }
  /** Nothing of its type may begin here at the moment. */
  | { readonly reason: 'breaker-open'; readonly task: string }
  /** Nobody who is there has a handler of its type. */
  | { readonly reason: 'no-capable-node'; readonly task: string }
  /** It has to run with nothing beside it, and waits for its turn. */
  | { readonly reason: 'alone'; readonly losses: number }
  | {
      readonly reason: 'capacity';
      /** Tasks that are due there. */
      readonly ready: number;
      readonly running: number;
      readonly threads: number;
    }
  /** Everything it needs is there: the next commit claims it. */
  | { readonly reason: 'next' }
  /** Its shard is being read, or handed over. */
  | { readonly reason: 'moving'; readonly task: string }
  /** Another node holds it. */
  | {
      readonly reason: 'other-node';
      readonly node: string;
      readonly host: string | undefined;
      readonly ready: number | undefined;
      readonly running: number | undefined;
      readonly freePlaces: number | undefined;
    }
  /** No node looks after its queue. */
  | { readonly reason: 'no-node'; readonly queue: string }
  /** The store does not answer, or this node's lease in it is in doubt. */
  | { readonly reason: 'store-away' }
  | { readonly reason: 'closing' }
);
