/**
 * Alertmanager's webhook, version 4: from bytes that anybody may have sent to requests for actions.
 *
 *   POST /v1/alerts --> JSON of version 4? --> each alert: an action we know, and meant for this node? --> queue --> 202
 *                            | no                                                            | full
 *                           400                                                             503 (sent again later)
 *
 * Alertmanager delivers at least once, its peers double, and it repeats itself every `repeat_interval`. So an alert is acted
 * upon once in the cluster: its fingerprint, the time it began and its status are a key in the store, for a day. The
 * key is taken when the action is about to be done; what the rails held back is asked for again by the next repetition.
 * Repetitions within seconds are none, but replays: they are dropped here.
 *
 * From the alert only four labels are used: `action`, `instance`, `type` (of `open-breaker`) and `alertname`. Nothing in it
 * is run, opened, or sent anywhere. Unknown fields are ignored; each alert's own status counts, since a group is
 * `firing` as long as any of its alerts is.
 */
import type { HealGate } from '../core/heal-gate.js';
import { type ActionRequest, type Actions, actionNamed } from './actions.js';

/** What one alert asks for. */
interface Alert {
  readonly key: string;
  readonly isFiring: boolean;
  readonly request: ActionRequest;
}

export type AlertsAnswer =
  | { readonly status: 202; readonly accepted: number }
  | { readonly status: 400 | 503; readonly reason: string };

const VERSION = '4';
const ALERTS_MAX = 1_000;
const QUEUE_MAX = 1_000;
const LABEL_CHARS_MAX = 200;
const KEPT_MS = 86_400_000;
const REPLAY_MS = 5_000;
const HEARD_MAX = 10_000;

export class AlertDesk {
  readonly #actions: Actions;
  readonly #gate: HealGate;
  readonly #isHere: (instance: string) => boolean;
  readonly #nowMs: () => number;
  /** When alerts came, by key. */
  readonly #heard = new Map<string, number>();
  readonly #queue: Alert[] = [];
  #working: Promise<void> | undefined;

  /**
   * @param options.isHere - whether an `instance` label names this node
   * @param options.nowMs - monotonic
   */
  constructor(
    actions: Actions,
    gate: HealGate,
    options: { readonly isHere: (instance: string) => boolean; readonly nowMs: () => number },
  ) {
    this.#actions = actions;
    this.#gate = gate;
    this.#isHere = options.isHere;
    this.#nowMs = options.nowMs;
  }

  /** Takes a notification. What it asks for is done after the answer, in order. */
  receive(body: Buffer): AlertsAnswer {
    const alerts = alertsOf(body);
    if (typeof alerts === 'string') return { status: 400, reason: alerts };
    const ours = alerts.filter(
      ({ key, instance }) => (instance === '' || this.#isHere(instance)) && !this.#isReplay(key),
    );
    if (this.#queue.length + ours.length > QUEUE_MAX) {
      return { status: 503, reason: 'too many alerts wait' };
    }
    this.#queue.push(...ours);
    if (ours.length > 0) this.#working ??= this.#work();
    return { status: 202, accepted: ours.length };
  }

  /** Resolves when nothing waits. */
  async idle(): Promise<void> {
    await this.#working;
  }

  /** Whether it came a moment ago. */
  #isReplay(key: string): boolean {
    const nowMs = this.#nowMs();
    const atMs = this.#heard.get(key);
    if (this.#heard.size >= HEARD_MAX) this.#heard.clear();
    if (atMs !== undefined && nowMs - atMs < REPLAY_MS) return true;
    this.#heard.set(key, nowMs);
    return false;
  }

  async #work(): Promise<void> {
    // The answer goes out first.
    await Promise.resolve();
    for (let alert = this.#queue.shift(); alert !== undefined; alert = this.#queue.shift()) {
      await this.#handle(alert);
    }
    this.#working = undefined;
  }

  async #handle({ key, isFiring, request }: Alert): Promise<void> {
    const isFirst = (): Promise<boolean> => this.#gate.once(key, KEPT_MS);
    if (isFiring) await this.#actions.request(request, isFirst);
    // Without the store nobody knows whether it was said before; what it lifts has an end of its own.
    else if (await isFirst().catch(() => false)) this.#actions.resolve(request);
  }
}

/** The alerts with a known action, or what is wrong with the whole. */
function alertsOf(body: Buffer): (Alert & { readonly instance: string })[] | string {
  let message: unknown;
  try {
    message = JSON.parse(body.toString('utf8'));
  } catch {
    return 'not JSON';
  }
  if (!isRecord(message) || message.version !== VERSION)
    return `not a notification of version ${VERSION}`;
  const { alerts } = message;
  if (!Array.isArray(alerts) || alerts.length > ALERTS_MAX) {
    return `alerts is not a list of at most ${ALERTS_MAX}`;
  }
  return alerts.flatMap((alert: unknown) => {
    if (!isRecord(alert) || !isRecord(alert.labels)) return [];
    const { fingerprint, startsAt, status, labels } = alert;
    const action = actionNamed(labels.action);
    if (action === undefined || !isText(fingerprint) || !isText(startsAt)) return [];
    if (status !== 'firing' && status !== 'resolved') return [];
    const name = textOf(labels.alertname);
    const target = action === 'open-breaker' ? textOf(labels.type) : name;
    if (target === '') return [];
    return {
      key: `${fingerprint}|${startsAt}|${status}`,
      isFiring: status === 'firing',
      instance: textOf(labels.instance),
      request: { action, target, source: 'webhook' as const, reason: `alert ${name}` },
    };
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= LABEL_CHARS_MAX;
}

/** A label, or '' when it is none that we use. */
function textOf(label: unknown): string {
  return isText(label) && /^[\x20-\x7e]+$/.test(label) ? label : '';
}
