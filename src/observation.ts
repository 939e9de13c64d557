/**
 * What watches a runtime: subscribers of its channels, put together. It is started before the store opens and stopped
 * last, so that opening and closing are observed too.
 */
import { readFileSync } from 'node:fs';
import type { Clock } from './core/clock.js';
import type { Incarnation } from './core/ids.js';
import { BaseService, type Service } from './core/service.js';
import type { ResolvedObservation } from './observation-options.js';
import { EventLog } from './telemetry/event-log.js';
import { openLogger } from './telemetry/logger.js';
import { Metrics, type RuntimeFigures } from './telemetry/metrics.js';

/** The package, two levels above the compiled file. */
const PACKAGE = new URL('../../package.json', import.meta.url);

/** The services that watch one runtime. */
export class Observation extends BaseService {
  readonly #metrics: Metrics | undefined;
  readonly #watchers: readonly Service[];

  private constructor(metrics: Metrics | undefined, log: EventLog | undefined) {
    super();
    this.#metrics = metrics;
    this.#watchers = [log, metrics].filter((watcher) => watcher !== undefined);
  }

  /**
   * Builds what the options ask for, and starts it.
   *
   * @param incarnation - of the runtime that is watched
   * @throws ERR_MILLRACE_INVALID_OPTION when pino is wanted and not installed
   */
  static async start(
    clock: Clock,
    incarnation: Incarnation,
    options: ResolvedObservation,
  ): Promise<Observation> {
    const log = await openLog(clock, incarnation, options.log);
    const metrics =
      options.metrics === false
        ? undefined
        : new Metrics(options.metrics, {
            incarnation,
            version: packageVersion(),
            nowMs: () => clock.monoMs(),
            suppressed: () => log?.counts.suppressed ?? {},
          });
    const observation = new Observation(metrics, log);
    await observation.start();
    return observation;
  }

  /** Everything counted, as text for Prometheus; '' with `metrics: false`. */
  prometheus(): string {
    return this.#metrics?.prometheus() ?? '';
  }

  /** From now on the runtime's own figures are among the metrics. */
  follow(figures: () => RuntimeFigures): void {
    this.#metrics?.follow(figures);
  }

  protected async onStart(): Promise<void> {
    for (const watcher of this.#watchers) await watcher.start();
  }

  protected async onStop(): Promise<void> {
    for (const watcher of [...this.#watchers].reverse()) await watcher.stop();
  }
}

async function openLog(
  clock: Clock,
  incarnation: Incarnation,
  options: ResolvedObservation['log'],
): Promise<EventLog | undefined> {
  if (options === undefined) return undefined;
  const logger = await openLogger(options.logger, options.isSync);
  return new EventLog(clock, logger, { ...options.logs, incarnation });
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string };
  return version;
}
