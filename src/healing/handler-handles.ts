/**
 * The leak watchdog's eyes in a worker thread: what is open there, and which task types leave something open.
 *
 *   always    counts by kind, once a second at most. Where only tasks of one type ran between two quiet moments, what is
 *             open at the second and was not at the first was left by that type
 *   on asking every handle is followed from its opening to its end (async_hooks), under the task whose handler opened it:
 *             what is open GRACE_MS after that task has ended was left by it. The first of each moment have their
 *             stacks, of the others one in STACK_EVERY
 *
 * Following costs something for every promise of the thread, so it is done for seconds, on suspicion. The counts cost
 * some microseconds a second.
 *
 * A handle that a type left may be meant to stay, such as a pool of connections: one look says who, only growth says leak.
 * Blind spots: timers that are unref'd are not in Node's counts (following sees them), promises that never settle are in
 * neither.
 */
import { type AsyncHook, AsyncLocalStorage, createHook } from 'node:async_hooks';
import { outside } from '../core/async-context.js';
import type { HandleReport, HandlerHooks, HookSite, LeftHandles } from '../core/handler-hooks.js';

const TELL_EVERY_MS = 1_000;
/** Handles that are being closed when their task ends get so long. */
const GRACE_MS = 100;
const STACK_EVERY = 16;
/** In each GRACE_MS, before one in STACK_EVERY. */
const STACKS_FREE = 50;
const STACK_FRAMES = 8;
/** Scopes and handles that are followed at once; more are not looked at. */
const FOLLOWED_MAX = 10_000;

/** async_hooks speaks of resources, `process.getActiveResourcesInfo()` of classes. */
const KINDS: Readonly<Record<string, string>> = {
  TCPWRAP: 'TCPSocketWrap',
  TCPSERVERWRAP: 'TCPServerWrap',
  PIPEWRAP: 'PipeWrap',
  PIPESERVERWRAP: 'PipeWrap',
  MESSAGEPORT: 'MessagePort',
  UDPWRAP: 'UDPWrap',
  PROCESSWRAP: 'ProcessWrap',
  TTYWRAP: 'TTYWrap',
  FSEVENTWRAP: 'FSEventWrap',
  STATWATCHER: 'StatWatcher',
  FILEHANDLE: 'FileHandle',
  DIRHANDLE: 'DirHandle',
  HTTP2SESSION: 'Http2Session',
  Timeout: 'Timeout',
  WORKER: 'Worker',
};

/** One execution of a task while handles are followed. */
interface Scope {
  readonly type: string;
  readonly open: Map<number, { readonly kind: string; readonly site: string }>;
  endedAtMs: number | undefined;
}

type Counts = Readonly<Record<string, number>>;

// Taken before user code loads: fake timers in there must not stop the watch.
const { setTimeout: wakeIn, setInterval: wakeEvery, clearInterval: stopWaking } = globalThis;

export function createHooks(site: HookSite): HandlerHooks {
  return new HandleWatch(site);
}

class HandleWatch implements HandlerHooks {
  around: HandlerHooks['around'];
  readonly #site: HookSite;
  /** That ran since the last quiet look. */
  readonly #types = new Set<string>();
  readonly #left = new Map<string, LeftHandles>();
  /** At the last quiet look; before the first batch, when the thread has what it needs itself. */
  #quietCounts: Counts | undefined;
  #isQuiet = true;
  #toldAtMs = 0;
  #isPlanned = false;
  #follower: Follower | undefined;

  constructor(site: HookSite) {
    this.#site = site;
  }

  onBatch(types: readonly string[]): void {
    this.#isQuiet = false;
    this.#quietCounts ??= countOpen();
    for (const type of types) this.#types.add(type);
    if (performance.now() - this.#toldAtMs >= TELL_EVERY_MS) this.#tell(countOpen());
  }

  onQuiet(): void {
    this.#isQuiet = true;
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    const waitMs = Math.max(GRACE_MS, this.#toldAtMs + TELL_EVERY_MS - performance.now());
    outside(() => wakeIn(() => this.#lookWhenQuiet(), waitMs).unref());
  }

  inspect(forMs: number): void {
    this.#tell(countOpen());
    if (forMs <= 0) return;
    this.#follower ??= new Follower((left) => this.#add(left));
    const follower = this.#follower;
    this.around = (task, call) => follower.around(task.type, call);
    follower.followFor(forMs, () => {
      this.around = undefined;
      this.#follower = undefined;
      this.#tell(countOpen());
    });
  }

  #lookWhenQuiet(): void {
    this.#isPlanned = false;
    if (!this.#isQuiet) return;
    const counts = countOpen();
    const [type, other] = this.#types;
    // Followed handles are told exactly.
    if (type !== undefined && other === undefined && this.#follower === undefined) {
      for (const [kind, count] of Object.entries(counts)) {
        const more = count - (this.#quietCounts?.[kind] ?? 0);
        if (more > 0) this.#add({ type, kind, count: more, site: '' });
      }
    }
    this.#types.clear();
    this.#quietCounts = counts;
    this.#tell(counts);
  }

  #add({ type, kind, count, site }: LeftHandles): void {
    const key = `${type}\n${kind}`;
    const before = this.#left.get(key);
    const sum = (before?.count ?? 0) + count;
    this.#left.set(key, { type, kind, count: sum, site: site || (before?.site ?? '') });
  }

  #tell(open: Counts): void {
    this.#toldAtMs = performance.now();
    const report: HandleReport = { open, left: [...this.#left.values()] };
    this.#left.clear();
    this.#site.tell(report);
  }
}

/** Follows handles from their opening to their end, for a while. */
class Follower {
  readonly #onLeft: (left: LeftHandles) => void;
  readonly #scopes = new AsyncLocalStorage<Scope>();
  readonly #owners = new Map<number, Scope>();
  readonly #ended = new Set<Scope>();
  readonly #hook: AsyncHook;
  #handles = 0;
  #stacksFree = STACKS_FREE;
  #sweep: NodeJS.Timeout | undefined;
  #endsAtMs = 0;

  constructor(onLeft: (left: LeftHandles) => void) {
    this.#onLeft = onLeft;
    this.#hook = createHook({
      init: (id, resource) => {
        const kind = KINDS[resource];
        if (kind === undefined || this.#owners.size >= FOLLOWED_MAX) return;
        const scope = this.#scopes.getStore();
        if (scope === undefined) return;
        const isShown = this.#stacksFree-- > 0 || this.#handles++ % STACK_EVERY === 0;
        const site = isShown ? stackHere() : '';
        scope.open.set(id, { kind, site });
        this.#owners.set(id, scope);
      },
      destroy: (id) => {
        this.#owners.get(id)?.open.delete(id);
        this.#owners.delete(id);
      },
    });
  }

  /** Goes on for so long from now. */
  followFor(forMs: number, onEnd: () => void): void {
    this.#endsAtMs = performance.now() + forMs;
    if (this.#sweep !== undefined) return;
    this.#hook.enable();
    this.#sweep = outside(() =>
      wakeEvery(() => {
        this.#stacksFree = STACKS_FREE;
        this.#report();
        if (performance.now() < this.#endsAtMs) return;
        stopWaking(this.#sweep);
        this.#hook.disable();
        onEnd();
      }, GRACE_MS).unref(),
    );
  }

  around<T>(type: string, call: () => T): T {
    const scope: Scope = { type, open: new Map(), endedAtMs: undefined };
    const end = (): void => {
      scope.endedAtMs = performance.now();
      if (scope.open.size > 0) this.#ended.add(scope);
    };
    let result: T;
    try {
      result = this.#scopes.run(scope, call);
    } catch (error) {
      end();
      throw error;
    }
    const { then } = (result ?? {}) as { then?: unknown };
    if (typeof then === 'function') {
      outside(() => (result as PromiseLike<unknown>).then(end, end));
    } else end();
    return result;
  }

  #report(): void {
    const untilMs = performance.now() - GRACE_MS;
    for (const scope of this.#ended) {
      if (scope.endedAtMs! > untilMs) continue;
      this.#ended.delete(scope);
      for (const { kind, site } of scope.open.values()) {
        this.#onLeft({ type: scope.type, kind, count: 1, site });
      }
    }
  }
}

function countOpen(): Counts {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

/** Not formatted for the caller's taste: frames of Node's own and of this file are left out. */
function stackHere(): string {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = STACK_FRAMES * 2;
  const { stack = '' } = new Error();
  Error.stackTraceLimit = before;
  return stack
    .split('\n')
    .slice(1)
    .filter((line) => !line.includes('node:') && !line.includes('handler-handles'))
    .slice(0, STACK_FRAMES)
    .map((line) => line.trim())
    .join('\n');
}
