/**
 * How far long work is: a bar that redraws itself on a terminal, plain lines anywhere else.
 *
 * The work does not report; it is asked, a few times a second on a terminal and at most once a second otherwise, so
 * that progress costs nothing per task. The rate is that of the last seconds, not the average since the start.
 */
import { bytes, count, span } from './units.js';

export interface ProgressFacts {
  readonly done: number;
  /** Undefined as long as nobody knows. */
  readonly total: number | undefined;
  readonly bytes?: number;
  readonly retries: number;
}

export type ProgressForm = 'text' | 'json';

interface Sample {
  readonly atMs: number;
  readonly done: number;
}

const DRAW_MS = 100;
const LINE_MS = 1_000;
const RATE_WINDOW_MS = 3_000;
const BAR_CELLS_MAX = 24;
const COLUMNS_DEFAULT = 80;
const CLEAR_LINE = '\r\u001b[K';

export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #noun: string;
  readonly #form: ProgressForm;
  readonly #read: () => ProgressFacts;
  #startedAtMs = 0;
  readonly #samples: Sample[] = [];
  #timer: NodeJS.Timeout | undefined;
  #lastLine = '';

  /**
   * @param noun - what is counted, in the plural
   * @param read - asked for the facts whenever they are shown
   */
  constructor(
    options: {
      readonly stream: NodeJS.WriteStream;
      readonly noun: string;
      readonly form: ProgressForm;
    },
    read: () => ProgressFacts,
  ) {
    this.#stream = options.stream;
    this.#noun = options.noun;
    this.#form = options.form;
    this.#read = read;
  }

  get #isBar(): boolean {
    return this.#form === 'text' && this.#stream.isTTY === true && process.env.TERM !== 'dumb';
  }

  start(): void {
    this.#startedAtMs = performance.now();
    this.#samples.push({ atMs: this.#startedAtMs, done: this.#read().done });
    const everyMs = this.#isBar ? DRAW_MS : LINE_MS;
    this.#timer = setInterval(() => this.#show(), everyMs);
    // Progress is no reason for a process to live.
    this.#timer.unref();
    if (this.#isBar) this.#show();
  }

  /** Says something in between, above the bar. For people only. */
  note(line: string): void {
    if (this.#form === 'json') return;
    this.#stream.write(`${this.#isBar ? CLEAR_LINE : ''}${line}\n`);
  }

  /** Stops, and takes the bar away. */
  stop(): void {
    clearInterval(this.#timer);
    if (this.#isBar) this.#stream.write(CLEAR_LINE);
  }

  #show(): void {
    const nowMs = performance.now();
    const facts = this.#read();
    this.#samples.push({ atMs: nowMs, done: facts.done });
    while (this.#samples.length > 2 && nowMs - this.#samples[0]!.atMs > RATE_WINDOW_MS) {
      this.#samples.shift();
    }
    if (this.#isBar) this.#stream.write(`${CLEAR_LINE}${this.#bar(facts)}`);
    else this.#writeLine(facts, nowMs - this.#startedAtMs);
  }

  #writeLine(facts: ProgressFacts, elapsedMs: number): void {
    const line =
      this.#form === 'json'
        ? JSON.stringify({ progress: { ...facts, perSecond: Math.round(this.#perSecond()) } })
        : `${this.#counts(facts)}${this.#rest(facts)}`;
    // A log full of equal lines says less than one.
    if (line === this.#lastLine) return;
    this.#lastLine = line;
    this.#stream.write(this.#form === 'json' ? `${line}\n` : `${span(elapsedMs)}: ${line}\n`);
  }

  #bar(facts: ProgressFacts): string {
    // Room for the ^C that a terminal echoes: a line that wraps is not cleared as a whole.
    const columns = Math.max(20, this.#stream.columns || COLUMNS_DEFAULT) - 3;
    const text = `${this.#counts(facts)}${this.#rest(facts)}${this.#timeLeft(facts)}`;
    const { done, total } = facts;
    const cells = Math.min(BAR_CELLS_MAX, columns - text.length - 9);
    if (total === undefined || cells < 4) return text.slice(0, columns);
    const share = total === 0 ? 1 : Math.min(1, done / total);
    const filled = Math.floor(share * cells);
    const percent = String(Math.floor(share * 100)).padStart(3);
    return `[${'='.repeat(filled)}${' '.repeat(cells - filled)}] ${percent} % ${text}`;
  }

  #counts({ done, total }: ProgressFacts): string {
    const of = total === undefined ? '' : `/${count(total)}`;
    return `${count(done)}${of} ${this.#noun}`;
  }

  #rest(facts: ProgressFacts): string {
    const parts = [`${count(this.#perSecond())}/s`];
    if (facts.bytes !== undefined) parts.push(bytes(facts.bytes));
    if (facts.retries > 0) parts.push(`${count(facts.retries)} retries`);
    return `, ${parts.join(', ')}`;
  }

  #timeLeft({ done, total }: ProgressFacts): string {
    const perSecond = this.#perSecond();
    if (total === undefined || total <= done || perSecond < 1) return '';
    return `, ${span(Math.ceil((total - done) / perSecond) * 1_000)} left`;
  }

  /** Over the last seconds; 0 before there are two samples. */
  #perSecond(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs === first.atMs) return 0;
    return ((last.done - first.done) / (last.atMs - first.atMs)) * 1_000;
  }
}
