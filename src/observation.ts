/**
 * What watches a runtime: subscribers of its channels, put together. It is started before the store opens and stopped
 * last, so that opening and closing are observed too.
 */
import type { ResolvedAdmin } from './admin/admin-options.js';
import type { AdminServer } from './admin/admin-server.js';
import type { Clock } from './core/clock.js';
import type { HealGate } from './core/heal-gate.js';
import type { Incarnation } from './core/ids.js';
import type { Levers } from './core/levers.js';
import { BaseService, type Service } from './core/service.js';
import type { HealRecord } from './healing/actions.js';
import type { TypeBreakers } from './healing/breakers.js';
import { Healing } from './healing/healing.js';
import type { ResolvedObservation } from './observation-options.js';
import { packageVersion } from './package-version.js';
import { EventLog } from './telemetry/event-log.js';
import { openLogger } from './telemetry/logger.js';
import { Metrics, type RuntimeFigures } from './telemetry/metrics.js';
import { loadOpenTelemetry } from './telemetry/open-telemetry.js';
import { Tracing } from './telemetry/tracing.js';

/** How a runtime is, for those who ask whether to send it work. */
export interface Health {
  /** Whether it can still do its work; `false`: it has to be started anew. */
  readonly live: boolean;
  /** Whether it takes tasks now. */
  readonly ready: boolean;
  /** Why not, in words; empty when all is well. */
  readonly reasons: readonly string[];
}

/** What a runtime tells when it is asked. */
export interface WatchedRuntime {
  stats(): RuntimeFigures;
  health(): Health;
}

/** The services that watch one runtime. */
export class Observation extends BaseService {
  readonly #metrics: Metrics | undefined;
  /** Undefined: tasks carry no context, and executions have no spans. */
  readonly tracing: Tracing | undefined;
  readonly #watchers: Service[];
  readonly #makeHealing: ((levers: Levers, gate: HealGate) => Healing) | undefined;
  #admin: AdminServer | undefined;
  #healer: Healing | undefined;
  #isHealingEnabled = process.env.MILLRACE_HEALING !== 'off';
  #runtime: WatchedRuntime | undefined;

  private constructor(
    metrics: Metrics | undefined,
    log: EventLog | undefined,
    tracing: Tracing | undefined,
    makeHealing: ((levers: Levers, gate: HealGate) => Healing) | undefined,
  ) {
    super();
    this.#makeHealing = makeHealing;
    this.#metrics = metrics;
    this.tracing = tracing;
    this.#watchers = [log, metrics, tracing].filter((watcher) => watcher !== undefined);
  }

  /**
   * Builds what the options ask for, and starts it.
   *
   * @param incarnation - of the runtime that is watched
   * @throws ERR_MILLRACE_INVALID_OPTION when pino or OpenTelemetry is wanted and not installed, or nobody can listen at
   *   `admin.listen`
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
    const { healing } = options;
    const observation: Observation = new Observation(
      metrics,
      log,
      await openTracing(clock, incarnation, options.tracing),
      healing &&
        ((levers, gate) =>
          new Healing(
            clock,
            { levers, gate },
            { ...healing, incarnation, port: () => observation.adminAddress?.port },
          )),
    );
    try {
      if (options.admin !== undefined) {
        await observation.#addAdmin(options.admin, clock, healing?.webhook?.token);
      }
      await observation.start();
    } catch (error) {
      await observation.stop();
      throw error;
    }
    return observation;
  }

  /** Where the HTTP server listens; undefined when there is none. */
  get adminAddress(): AdminServer['address'] | undefined {
    return this.#admin?.address;
  }

  /** Everything counted, as text for Prometheus; '' with `metrics: false`. */
  prometheus(): string {
    return this.#metrics?.prometheus() ?? '';
  }

  /** From now on the runtime's own figures are among the metrics, and its health is told. */
  follow(runtime: WatchedRuntime): void {
    this.#runtime = runtime;
    this.#metrics?.follow(() => runtime.stats());
  }

  /** From now on the runtime's levers are pulled when something is wrong. */
  async heal(levers: Levers, gate: HealGate): Promise<void> {
    this.#healer = this.#makeHealing?.(levers, gate);
    if (this.#healer === undefined) return;
    this.#healer.actions.isEnabled = this.#isHealingEnabled;
    await this.#healer.start();
  }

  /** For the runtime's user. */
  get healing(): { enabled: boolean; audit(): readonly HealRecord[] } {
    const observation = this;
    return {
      get enabled() {
        return observation.#isHealingEnabled;
      },
      set enabled(isEnabled) {
        observation.#isHealingEnabled = isEnabled;
        if (observation.#healer) observation.#healer.actions.isEnabled = isEnabled;
      },
      audit: () => observation.#healer?.actions.audit ?? [],
    };
  }

  /** The breakers of task types; undefined when there are none. */
  get breakers(): TypeBreakers | undefined {
    return this.#healer?.breakers;
  }

  /** No lever is pulled from here on: the runtime closes. */
  async stopHealing(): Promise<void> {
    await this.#healer?.stop();
  }

  /** Loaded when it is asked for: a runtime without it knows no HTTP. */
  async #addAdmin(
    options: ResolvedAdmin,
    clock: Clock,
    webhookToken: string | undefined,
  ): Promise<void> {
    const { AdminServer } = await import('./admin/admin-server.js');
    const { alertRoute, watchRoutes } = await import('./admin/routes.js');
    const nowMs = (): number => clock.monoMs();
    const watched = {
      prometheus: () => this.prometheus(),
      // It is starting until there is a runtime to ask.
      health: () => this.#runtime?.health() ?? { live: true, ready: false },
    };
    const routes = watchRoutes(watched, nowMs);
    // The runtime is not there yet, and alerts come again.
    const receive = (body: Buffer) =>
      this.#healer?.alerts?.receive(body) ?? { status: 503 as const, reason: 'starting' };
    if (webhookToken !== undefined) routes.push(alertRoute(webhookToken, receive));
    this.#admin = new AdminServer(options, routes, nowMs);
    this.#watchers.push(this.#admin);
  }

  protected async onStart(): Promise<void> {
    for (const watcher of this.#watchers) await watcher.start();
  }

  protected async onStop(): Promise<void> {
    await this.stopHealing();
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

async function openTracing(
  clock: Clock,
  incarnation: Incarnation,
  options: ResolvedObservation['tracing'],
): Promise<Tracing | undefined> {
  if (options === undefined) return undefined;
  const parts = { incarnation, version: packageVersion(), wallMs: () => clock.wallMs() };
  return new Tracing(await loadOpenTelemetry(), options, parts);
}
