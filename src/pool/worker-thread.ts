/**
 * One worker thread: a Piscina of one thread, our port into it, and the batches that are there.
 *
 *   STARTING --module loaded--> READY --+--> GONE        (exit, uncaught exception, memory limit, kill)
 *      `-----------load failed----------'
 *
 * Piscina starts the thread and ends it; between those, batches bypass it (see docs/decisions/0003). The Worker's
 * own `exit` event is the only proof of death. Results that were on their way by then are heard first, so a task
 * that reported is never also lost.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  MessageChannel,
  type MessagePort,
  type ResourceLimits,
  receiveMessageOnPort,
  type Worker,
} from 'node:worker_threads';
import { Piscina } from 'piscina';
import { hasSubscribers, publish } from '../core/channels.js';
import type { ChildDesk } from '../core/children.js';
import { fromWire, toWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import type { HandleReport } from '../core/handler-hooks.js';
import type { BatchListener, RunningBatch } from '../core/pool.js';
import { LastWords } from './last-words.js';
import {
  type AnswerMessage,
  type AskMessage,
  type AttachData,
  type AttachResult,
  type CancelMessage,
  clockOffsetMs,
  type InspectMessage,
  type ResultMessage,
  type RunMessage,
} from './messages.js';
import { type PlaceLimits, Places } from './places.js';
import { ResultLog } from './result-log.js';
import { type LossReason, SentBatch, taskLost, tellLine } from './sent-batch.js';
import { noRuntime } from './task-children.js';
import type { NoteCounts } from './task-notes.js';
import { Vitals } from './worker-vitals.js';

const ENTRY = fileURLToPath(new URL('./worker-entry.js', import.meta.url));
/** Room for the usual batch; larger ones get more when they come. */
const LOG_RECORDS = 64;
/** A thread that dies sooner than this after its start died of it. */
const SETTLED_MS = 1_000;
/** How long a thread that is to end may take to load what is ours. */
const ENTRY_MS_MAX = 1_000;

export interface WorkerThreadOptions extends Omit<AttachData, 'port' | 'vitals' | 'lastWords'> {
  readonly limits: AttachData['limits'];
  readonly placeLimits: PlaceLimits;
  /** Does what handlers ask for. */
  readonly children: ChildDesk | undefined;
  readonly resourceLimits: ResourceLimits | undefined;
  readonly loadTimeoutMs: number;
}

/** When a thread has done enough. Infinity: never. */
export interface WearLimits {
  readonly tasks: number;
  /** Of growth since its module was loaded. */
  readonly heapBytes: number;
  readonly ageMs: number;
}

export interface WorkerThreadEvents {
  /** Around everything that may free a place. */
  change(apply: () => void): void;
  /** The thread is gone and its batches have been told. Once. */
  onGone(loss: MillraceError): void;
}

export class WorkerThread {
  /** Resolves when the module is loaded; rejects with ERR_MILLRACE_TASKS_MODULE when it cannot be. */
  readonly ready: Promise<void>;
  /** Resolves when the thread has ended. */
  readonly gone: Promise<void>;
  readonly threadId: number;
  readonly #events: WorkerThreadEvents;
  readonly #executor: string;
  readonly #places: Places;
  readonly #children: ChildDesk | undefined;
  readonly #piscina: Piscina;
  /** Referenced while batches are here: they keep the process alive, an idle thread does not. */
  readonly #worker: Worker;
  readonly #port: MessagePort;
  /** By place. */
  readonly #sent: (SentBatch | undefined)[] = [];
  readonly #logs: ResultLog[] = [];
  /** From the thread's clock to ours. */
  #clockOffsetMs = 0;
  readonly #vitals = new Vitals();
  readonly #lastWords = new LastWords();
  /** Whether the thread has loaded our half of it. */
  #hasEntered = false;
  #onEntered: () => void = () => {};
  readonly #entered: Promise<void> = new Promise((resolve) => {
    this.#onEntered = resolve;
  });
  #usedBytesAtFirst = 0;
  #tasksRun = 0;
  #isReady = false;
  #readyAtMs = Number.POSITIVE_INFINITY;
  #isRetired = false;
  #isGone = false;
  #reason: LossReason | undefined;
  #cause: unknown;

  constructor(options: WorkerThreadOptions, events: WorkerThreadEvents) {
    const { placeLimits, resourceLimits, loadTimeoutMs, children, ...attach } = options;
    const { port1, port2 } = new MessageChannel();
    this.#events = events;
    this.#executor = attach.executor;
    this.#places = new Places(placeLimits);
    this.#children = children;
    this.#port = port1;
    this.#piscina = new Piscina({
      filename: ENTRY,
      name: 'attach',
      // A thread starts with its run and is not replaced when it dies: how many there are is the pool's business.
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      // Otherwise an idle worker would be parked in Atomics.wait, and its handlers' timers with it.
      atomics: 'disabled',
      recordTiming: false,
      ...(resourceLimits !== undefined && { resourceLimits }),
    });
    // Emitted for what no run is there to hear; the Worker's own event below says the same.
    this.#piscina.on('error', () => {});
    const data: AttachData = {
      ...attach,
      port: port2,
      vitals: this.#vitals.memory,
      lastWords: this.#lastWords.memory,
    };
    const attached = this.#piscina.run(data, { transferList: [port2] }) as Promise<AttachResult>;
    const worker = this.#piscina.threads[0]!;
    this.#worker = worker;
    this.threadId = worker.threadId;
    worker.once('error', (error: unknown) => {
      this.#cause = error;
    });
    this.gone = new Promise((resolve) => {
      worker.once('exit', (exitCode) => {
        this.#onExit(exitCode);
        resolve();
      });
    });
    this.ready = this.#attach(attached, attach.module, loadTimeoutMs);
    // Who waits for the thread hears of it; the promise itself must not count as unhandled.
    this.ready.catch(() => {});
    port1.on('message', (message: ResultMessage | AskMessage) => this.#onMessage(message));
    // A port with a listener would keep the process alive, though not until the thread's `exit` event.
    port1.unref();
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether it ran a batch, or at least lived for a while after it was ready: not one that dies by itself. */
  get wasOfUse(): boolean {
    return this.#logs.length > 0 || this.ageMs > SETTLED_MS;
  }

  /** Memory that its heap holds, as it last said; 0 before it is ready. */
  get heldBytes(): number {
    return this.#vitals.heldBytes;
  }

  /** What its tasks said too much or too late. */
  get noteCounts(): Readonly<NoteCounts> {
    return this.#vitals.noteCounts;
  }

  /** Whether it has run enough tasks, grown enough or lived long enough to be replaced. */
  isWorn({ tasks, heapBytes, ageMs }: WearLimits): boolean {
    return (
      this.#tasksRun >= tasks ||
      this.#vitals.usedBytes - this.#usedBytesAtFirst >= heapBytes ||
      this.ageMs >= ageMs
    );
  }

  /** Since it was ready; below 0 before. */
  get ageMs(): number {
    return performance.now() - this.#readyAtMs;
  }

  /** Batches that may be sent here now. */
  get freePlaces(): number {
    // One that is being killed would only give them back.
    return this.#isReady && !this.#isRetired && this.#reason === undefined ? this.#places.free : 0;
  }

  /** Gets no more batches. */
  get isRetired(): boolean {
    return this.#isRetired;
  }

  /** Batches that are here. */
  get batchCount(): number {
    return this.#places.batches;
  }

  /** REQUIRES: freePlaces > 0. */
  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    if (this.#places.batches === 0) this.#worker.ref();
    this.#vitals.wantsLines = hasSubscribers('millrace:task:log');
    const sent = new SentBatch(batch, listener, (tasks) => this.#places.take(tasks));
    const place = this.#freePlace();
    this.#sent[place] = sent;
    const message: RunMessage = { place, batch: batch.buffer };
    const log = this.#logFor(place, sent.count);
    this.#port.postMessage(log === undefined ? message : { ...message, log }, [batch.buffer]);
    return {
      cancel: (slot, reason, isTimeout = false) => {
        if (sent.hasEnded) return;
        const cancel: CancelMessage = { place, slot, reason, isTimeout };
        this.#port.postMessage(cancel);
      },
      startedAtMs: (index) => {
        if (sent.hasEnded) return -1;
        const startedAtMs = this.#logs[place]!.startedAtMs(index);
        return startedAtMs > 0 ? startedAtMs + this.#clockOffsetMs : startedAtMs;
      },
      kill: () => {
        if (!sent.hasEnded) void this.kill('timeout');
      },
    };
  }

  /** Has its hooks tell what is open here, and look closely for so long. */
  inspect(forMs: number): void {
    const message: InspectMessage = { inspectMs: forMs };
    if (this.#isReady) this.#port.postMessage(message);
  }

  /** Ends the thread when its batches have ended. */
  async retire(): Promise<void> {
    this.#isRetired = true;
    if (this.#places.batches === 0) await this.kill('shutdown');
    await this.gone;
  }

  /** Ends the thread, whatever it is doing. Its batches are lost for this reason. */
  async kill(reason: LossReason): Promise<void> {
    this.#reason ??= reason;
    this.#worker.ref();
    if (!this.#hasEntered && !this.#isGone) await this.#untilEntered();
    if (!this.#isGone) await this.#piscina.destroy();
    await this.gone;
  }

  /**
   * Until our half is loaded, or the thread has ended, or for too long.
   *
   * NOTE: Piscina has it loaded by `require`, and a thread that is terminated while Node links an ES module for `require` takes the
   * whole process along: "v8::Module::IsGraphAsync must be used on an instantiated module" (Node 20.20).
   */
  async #untilEntered(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ENTRY_MS_MAX);
    });
    await Promise.race([this.#entered, this.gone, late]);
    clearTimeout(timer);
  }

  async #attach(
    attached: Promise<AttachResult>,
    module: string,
    loadTimeoutMs: number,
  ): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(notLoaded(module, `it took longer than ${loadTimeoutMs} ms`)),
        loadTimeoutMs,
      );
    });
    try {
      const { error, clockOffsetMs: theirsMs } = await Promise.race([attached, late]);
      if (error !== undefined) throw fromWire(error);
      this.#clockOffsetMs = (theirsMs ?? 0) - clockOffsetMs();
    } catch (error) {
      this.#cause ??= error;
      void this.kill('killed');
      if (error instanceof MillraceError) throw error;
      throw notLoaded(module, 'the thread ended meanwhile', error);
    } finally {
      clearTimeout(timer);
    }
    this.#events.change(() => {
      this.#readyAtMs = performance.now();
      this.#isReady = !this.#isGone;
      this.#usedBytesAtFirst = this.#vitals.usedBytes;
    });
  }

  #onMessage(message: ResultMessage | AskMessage): void {
    if ('hasEntered' in message) {
      this.#hasEntered = true;
      this.#onEntered();
      return;
    }
    if ('handles' in message && message.handles !== undefined) {
      this.#tellHandles(message.handles, false);
      return;
    }
    const sent = this.#sent[message.place];
    if (sent === undefined) return;
    if ('ask' in message) void this.#answer(message, sent);
    else this.#events.change(() => this.#hear(message, sent));
  }

  async #answer({ call, ask }: AskMessage, sent: SentBatch): Promise<void> {
    let goOn: (() => void) | undefined;
    if (ask.kind === 'end' || ask.kind === 'begin') {
      this.#events.change(() => {
        goOn = sent.waitForOthers();
      });
    }
    let message: AnswerMessage;
    try {
      if (this.#children === undefined) throw noRuntime();
      message = { call, answer: await this.#children(ask) };
    } catch (error) {
      message = { call, error: toWire(error) };
    }
    goOn?.();
    if (!this.#isGone) this.#port.postMessage(message);
  }

  #hear(message: ResultMessage, sent: SentBatch): void {
    const { place, results, notes, isParked, error } = message;
    if (notes !== undefined) {
      sent.notes(notes);
      return;
    }
    if (isParked) {
      sent.park();
      return;
    }
    if (results !== undefined) {
      sent.results(new Uint8Array(results));
      if (sent.tasksLeft > 0) return;
    }
    this.#tasksRun += sent.count;
    this.#sent[place] = undefined;
    this.#logs[place]!.clear();
    // Before the listener hears of the end, since it may send the next batch at once.
    if (this.#places.batches === 1) this.#worker.unref();
    sent.end(error === undefined ? undefined : (fromWire(error) as MillraceError));
    if (this.#isRetired && this.#places.batches === 0) void this.kill('shutdown');
  }

  #onExit(exitCode: number): void {
    // Results are in the port's queue, and only an `exit` event was faster.
    for (
      let last = receiveMessageOnPort(this.#port);
      last;
      last = receiveMessageOnPort(this.#port)
    ) {
      this.#onMessage(last.message as ResultMessage | AskMessage);
    }
    for (const line of this.#lastWords.read()) tellLine(line);
    this.#isGone = true;
    this.#isReady = false;
    this.#tellHandles({ open: {}, left: [] }, true);
    this.#port.removeAllListeners();
    this.#port.close();
    const left = [...this.#sent.entries()].flatMap(([place, sent]) =>
      sent === undefined ? [] : [{ sent, log: this.#logLeft(place) }],
    );
    const loss = taskLost(this.#reason ?? reasonOf(this.#cause), {
      exitCode,
      begun: left.reduce((begun, { sent, log }) => begun + sent.begunIn(log), 0),
      cause: this.#cause,
    });
    for (const { sent, log } of left) sent.lose(loss, log);
    this.#sent.length = 0;
    this.#events.onGone(loss);
  }

  #tellHandles({ open, left }: HandleReport, hasEnded: boolean): void {
    const { threadId } = this;
    const incarnation = this.#executor;
    publish('millrace:thread:handles', () => ({ incarnation, threadId, open, left, hasEnded }));
  }

  /** A new log, to be sent along, unless the place has one that is large enough. */
  #logFor(place: number, count: number): RunMessage['log'] {
    if ((this.#logs[place]?.capacity ?? -1) >= count) return undefined;
    const capacity = Math.max(count, LOG_RECORDS);
    const memory = new SharedArrayBuffer(ResultLog.bytesFor(capacity));
    this.#logs[place] = new ResultLog(memory, capacity);
    return { memory, capacity };
  }

  /** What the thread had written there when it died. */
  #logLeft(place: number): ResultLog {
    const { memory, capacity } = this.#logs[place]!;
    return new ResultLog(memory, capacity);
  }

  #freePlace(): number {
    const place = this.#sent.indexOf(undefined);
    return place === -1 ? this.#sent.length : place;
  }
}

function reasonOf(cause: unknown): LossReason {
  if (cause === undefined) return 'exit';
  const { code } = cause as { code?: unknown };
  return code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'out-of-memory' : 'uncaught';
}

/**
 * Whether a thread can start at all. Node does not say when a worker's own file is missing, and a bundler that took
 * this file in left that one behind.
 *
 * @throws ERR_MILLRACE_TASKS_MODULE
 */
export function checkEntry(entry: string = ENTRY): void {
  if (existsSync(entry)) return;
  throw new MillraceError(
    'ERR_MILLRACE_TASKS_MODULE',
    `worker threads cannot start: ${entry} is not there; a bundler has to leave millrace out (esbuild: --external:millrace), or the installation is incomplete`,
    { details: { location: entry } },
  );
}

function notLoaded(module: string, reason: string, cause?: unknown): MillraceError {
  return new MillraceError('ERR_MILLRACE_TASKS_MODULE', `${module} does not load: ${reason}`, {
    details: { location: module },
    ...(cause !== undefined && { cause }),
  });
}
