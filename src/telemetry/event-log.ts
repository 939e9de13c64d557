/**
 * Writes what happens inside millrace, and what handlers say, to a logger.
 *
 *   channel --> level enabled? --> sampler --> line --> logger
 *                                     |
 *                                     '--> counted, and summed up once a minute (logs.suppressed)
 *
 * Subscribers run inside the publisher, on its way to the next task. So a line that is not written costs a few
 * nanoseconds, nothing is built for it, and nothing that a logger does can end up in the publisher: a logger that
 * throws is reported once, as a warning of the process, and counted.
 *
 * Events that name their runtime are written by its log only; those of threads, stores and sessions do not, and are in
 * the log of each runtime of the process.
 */
import type { ChannelName } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { BaseService } from '../core/service.js';
import { Subscriptions } from '../core/subscriptions.js';
import type { LogLevel } from '../core/task.js';
import { LOG_EVENTS, type LogEvent } from './log-events.js';
import { isSampled, type LineKind, type ResolvedLogs, type SampledLevel } from './log-options.js';
import type { Logger, LogWrite, OpenLogger } from './logger.js';
import { Redaction, withoutCredentials } from './redaction.js';
import { KeyedSampler } from './samplers.js';

const SUMMARY_EVERY_MS = 60_000;
/** Entries of one summary, those with the most lines first. */
const SUMMARY_KEYS_MAX = 20;
const KEY_CHARS_MAX = 120;

/** What was not written since the start. */
export interface LogCounts {
  /** Lines that samplers held back, by level. */
  readonly suppressed: Readonly<Record<SampledLevel, number>>;
  /** Calls of the logger that threw. */
  readonly failed: number;
}

export class EventLog extends BaseService {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #flush: () => void;
  readonly #options: ResolvedLogs;
  readonly #redaction: Redaction;
  readonly #samplers: { event: string; level: SampledLevel; sampler: KeyedSampler }[] = [];
  readonly #subscriptions: Subscriptions;
  #summary: WakeUp | undefined;
  #failed = 0;

  /** @param incarnation - of the runtime whose events are written */
  constructor(
    clock: Clock,
    { logger, flush }: OpenLogger,
    options: ResolvedLogs & { readonly incarnation: string },
  ) {
    super();
    this.#clock = clock;
    this.#subscriptions = new Subscriptions(options.incarnation);
    this.#logger = logger;
    this.#flush = flush;
    this.#options = options;
    this.#redaction = new Redaction(options.redact);
  }

  get counts(): LogCounts {
    const suppressed = { trace: 0, debug: 0, info: 0 };
    for (const { level, sampler } of this.#samplers) suppressed[level] += sampler.held;
    return { suppressed, failed: this.#failed };
  }

  protected async onStart(): Promise<void> {
    for (const [name, event] of Object.entries(LOG_EVENTS)) {
      if (event !== undefined) this.#follow(name as ChannelName, event as LogEvent<unknown>);
    }
    this.#armSummary();
  }

  protected async onStop(): Promise<void> {
    this.#subscriptions.close();
    this.#summary?.cancel();
    this.#sumUp();
    this.#flush();
  }

  #follow(name: ChannelName, event: LogEvent<unknown>): void {
    const said = name.slice('millrace:'.length).replaceAll(':', '.');
    const samplers = this.#samplersOf(said, event.kind);
    this.#subscriptions.on(name, (payload: unknown) => {
      const level = typeof event.level === 'string' ? event.level : event.level(payload);
      if (this.#logger.isLevelEnabled?.(level) === false) return;
      let standsFor = 1;
      if (isSampled(level)) {
        const key = event.key === undefined ? '' : event.key(payload);
        standsFor = samplers[level].take(key, this.#clock.monoMs());
        if (standsFor === 0) return;
      }
      const fields = event.fields(payload, this.#redaction);
      const sampled = standsFor > 1 ? { sampled: standsFor } : undefined;
      this.#write(level, { event: said, ...fields, ...sampled }, event.message(payload));
    });
  }

  #samplersOf(event: string, kind: LineKind): Record<SampledLevel, KeyedSampler> {
    const rules = this.#options.rules[kind];
    const samplers = {
      trace: new KeyedSampler(rules.trace),
      debug: new KeyedSampler(rules.debug),
      info: new KeyedSampler(rules.info),
    };
    for (const [level, sampler] of Object.entries(samplers)) {
      this.#samplers.push({ event, level: level as SampledLevel, sampler });
    }
    return samplers;
  }

  #write(level: LogLevel, fields: object, message: string): void {
    try {
      const write: LogWrite | undefined = this.#logger[level];
      if (write === undefined) this.#logger.error(fields, message);
      else write.call(this.#logger, fields, message);
    } catch (error) {
      if (this.#failed++ > 0) return;
      process.emitWarning(`the logger throws: ${String(error)}; its lines are lost`, {
        type: 'MillraceWarning',
        code: 'millrace:log:failed',
      });
    }
  }

  #armSummary(): void {
    this.#summary = this.#clock.wakeIn(SUMMARY_EVERY_MS, () => {
      this.#sumUp();
      this.#armSummary();
    });
  }

  /** Tells what was held back since the last summary, unless there was nothing. */
  #sumUp(): void {
    const sums = this.#samplers.flatMap(({ event, level, sampler }) =>
      [...sampler.takeSums()].map(([key, lines]) => ({
        event,
        level,
        ...(key !== '' && { key: withoutCredentials(key).slice(0, KEY_CHARS_MAX) }),
        lines,
      })),
    );
    if (sums.length === 0) return;
    const lines = sums.reduce((sum, entry) => sum + entry.lines, 0);
    const most = sums.sort((a, b) => b.lines - a.lines).slice(0, SUMMARY_KEYS_MAX);
    this.#write(
      'info',
      { event: 'logs.suppressed', lines, kinds: sums.length, most },
      'lines were held back by sampling',
    );
  }
}
