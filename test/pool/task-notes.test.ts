import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TaskLine } from '../../src/core/channels.js';
import {
  NoteBook,
  type NoteDesk,
  type Notes,
  NoteTaker,
  TaskNotes,
} from '../../src/pool/task-notes.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

const WALL_MS = Date.UTC(2026, 10, 1);

interface Setup {
  readonly clock: VirtualClock;
  readonly counts: { dropped: number; late: number };
  /** What was sent, message by message. */
  readonly sent: Notes[];
  readonly book: NoteBook;
  readonly taker: NoteTaker;
  /** Lines sent so far. */
  lines(): TaskLine[];
  /** The newest progress that was sent. */
  progress(): unknown[];
  notes(slot?: number): TaskNotes;
  /** The task at this position has ended. */
  end(slot: number): void;
}

function setup(isHeard: () => boolean = () => true): Setup {
  const clock = new VirtualClock(WALL_MS);
  const counts = { dropped: 0, late: 0 };
  const sent: Notes[] = [];
  const time = {
    nowMs: () => clock.monoMs(),
    wallMs: () => clock.wallMs(),
    later: (delayMs: number, wake: () => void) => void clock.wakeIn(delayMs, wake),
  };
  const taker = new NoteTaker(time, isHeard, counts);
  const book = new NoteBook(taker, (notes) => sent.push(notes));
  const ended = new Set<number>();
  const desk: NoteDesk = {
    taker,
    bookOf: (index) => (ended.has(index) ? undefined : book),
  };
  return {
    clock,
    counts,
    sent,
    book,
    taker,
    lines: () => sent.flatMap(({ lines }) => lines.map((line) => JSON.parse(line) as TaskLine)),
    progress: () =>
      sent.flatMap(({ progress }) => progress.map(({ slot, json }) => [slot, JSON.parse(json)])),
    notes: (slot = 0) =>
      new TaskNotes(desk, slot, {
        slot,
        taskId: `task-${slot}`,
        type: 'mail.send',
        attempt: 2,
        tenant: 'acme',
      }),
    end: (slot) => ended.add(slot),
  };
}

describe('lines', () => {
  it('say who wrote them, when, and what', () => {
    const { notes, lines } = setup();
    notes().info({ to: 'kim', tries: 2 }, 'sent');
    assert.deepEqual(lines(), [
      {
        taskId: 'task-0',
        type: 'mail.send',
        attempt: 2,
        tenant: 'acme',
        level: 'info',
        atMs: WALL_MS,
        message: 'sent',
        dropped: 0,
        fields: { to: 'kim', tries: 2 },
      },
    ]);
  });

  it('have six levels and take a message, fields, both, or an error', () => {
    const { notes, book, lines } = setup();
    const log = notes();
    log.trace('a');
    log.debug({ b: 1 });
    log.info({ c: [1] }, 'c');
    log.warn(new RangeError('too far'));
    log.error({ err: new TypeError('no'), order: 7 }, 'failed');
    log.fatal(12 as never);
    book.send();
    const seen = lines().map(({ level, message, fields }) => [level, message, fields]);
    const errorOf = (index: number): { name: string; message: string } =>
      (seen[index]![2] as { err: { name: string; message: string } }).err;
    assert.deepEqual(seen.slice(0, 3), [
      ['trace', 'a', undefined],
      ['debug', '', { b: 1 }],
      ['info', 'c', { c: [1] }],
    ]);
    assert.deepEqual(seen[3]!.slice(0, 2), ['warn', 'too far']);
    assert.deepEqual([errorOf(3).name, errorOf(3).message], ['RangeError', 'too far']);
    assert.deepEqual(seen[4]!.slice(0, 2), ['error', 'failed']);
    assert.deepEqual([errorOf(4).name, errorOf(4).message], ['TypeError', 'no']);
    assert.deepEqual(seen[5], ['fatal', '12', undefined]);
  });

  it('arrive without fields that have no JSON form, or too much of it, but with the reason', () => {
    const { notes, book, lines } = setup();
    const log = notes();
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const deep = JSON.parse(`${'{"a":'.repeat(40)}1${'}'.repeat(40)}`) as object;
    const hostile = new Proxy(
      {},
      {
        ownKeys() {
          throw new Error('hands off');
        },
      },
    );
    for (const fields of [cycle, { big: 1n }, { long: 'x'.repeat(20_000) }, deep, hostile]) {
      log.info(fields, 'still here');
    }
    book.send();
    const codes = lines().map(({ message, fields }) => {
      assert.equal(message, 'still here');
      const { error } = fields as { error: { code?: string; message: string } };
      return error.code ?? error.message;
    });
    assert.deepEqual(codes, [
      'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
      'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
      'ERR_MILLRACE_PAYLOAD_TOO_LARGE',
      'ERR_MILLRACE_PAYLOAD_TOO_DEEP',
      'hands off',
    ]);
  });

  it('are not even built while nobody listens', () => {
    let isHeard = false;
    const { notes, book, sent, lines } = setup(() => isHeard);
    const log = notes();
    const poisoned = {
      toJSON() {
        throw new Error('built');
      },
    };
    log.info(poisoned);
    book.send();
    assert.equal(sent.length, 0);
    isHeard = true;
    log.info('now');
    book.send();
    assert.deepEqual(
      lines().map(({ message }) => message),
      ['now'],
    );
  });

  it('are bounded per task and second; the next one says how many are missing, or a last one', async () => {
    const { notes, book, lines, counts, clock } = setup();
    const log = notes();
    const other = notes(1);
    for (let i = 0; i < 507; i++) log.info(`${i}`);
    other.info('unharmed');
    assert.equal(counts.dropped, 7);
    await clock.advance(1_001);
    log.info('later');
    book.send();
    const seen = lines();
    assert.equal(seen.length, 502);
    assert.deepEqual(
      seen.slice(-2).map(({ message, dropped }) => [message, dropped]),
      [
        ['unharmed', 0],
        ['later', 7],
      ],
    );
    log.close();
    assert.equal(lines().length, 502);

    // The same by size.
    await clock.advance(1_001);
    for (let i = 0; i < 100; i++) log.info('y'.repeat(4_000));
    const dropped = counts.dropped - 7;
    assert.ok(dropped >= 60 && dropped < 80, `${dropped} dropped`);
    log.close();
    book.send();
    const last = lines().at(-1)!;
    assert.deepEqual([last.level, last.dropped], ['warn', dropped]);
    assert.match(last.message, /more than is kept/);
  });
});

describe('progress', () => {
  it('is the newest value, whoever is asked', () => {
    const { notes, book, progress } = setup();
    const [first, second] = [notes(0), notes(1)];
    first.progress(0.1);
    first.progress(0.2);
    second.progress({ pages: 3 });
    first.progress(0.3);
    book.send();
    // The first value left at once.
    assert.deepEqual(progress(), [
      [0, 0.1],
      [0, 0.3],
      [1, { pages: 3 }],
    ]);
  });

  it('is sent about 20 times a second, also from a handler that lets no timer run', async () => {
    const { notes, sent, progress, clock } = setup();
    const task = notes();
    for (let ms = 0; ms < 1_000; ms++) {
      task.progress(ms);
      await clock.advance(1);
    }
    assert.ok(sent.length >= 19 && sent.length <= 21, `${sent.length} messages`);
    await clock.advance(60);
    assert.deepEqual(progress().at(-1), [0, 999]);

    const busy = setup();
    let nowMs = 0;
    const taker = new NoteTaker(
      { nowMs: () => nowMs, wallMs: () => 0, later: () => {} },
      () => true,
      busy.counts,
    );
    const messages: Notes[] = [];
    const book = new NoteBook(taker, (it) => messages.push(it));
    const computing = new TaskNotes({ taker, bookOf: () => book }, 0, {
      ...{ slot: 0, taskId: '', type: 't', attempt: 1, tenant: undefined },
    });
    for (; nowMs < 1_000; nowMs += 5) computing.progress(nowMs);
    assert.ok(messages.length >= 19 && messages.length <= 21, `${messages.length} messages`);
  });

  it('that is no JSON value of 16 KiB is the handler’s mistake, and leaves the last one', () => {
    const { notes, book, progress } = setup();
    const task = notes();
    task.progress(1);
    const cycle: unknown[] = [];
    cycle.push(cycle);
    for (const [value, code] of [
      [undefined, 'NOT_SERIALIZABLE'],
      [() => {}, 'NOT_SERIALIZABLE'],
      [1n, 'NOT_SERIALIZABLE'],
      [cycle, 'NOT_SERIALIZABLE'],
      ['x'.repeat(17_000), 'TOO_LARGE'],
      [JSON.parse('['.repeat(70) + ']'.repeat(70)), 'TOO_DEEP'],
    ] as const) {
      assert.throws(() => task.progress(value), { code: `ERR_MILLRACE_PAYLOAD_${code}` });
    }
    book.send();
    assert.deepEqual(progress(), [[0, 1]]);
    task.progress(null);
    book.send();
    assert.deepEqual(progress().at(-1), [0, null]);
  });
});

it('what a task says after its end is counted, and ignored whatever it is', () => {
  const { notes, book, sent, counts, end } = setup();
  const task = notes();
  end(0);
  task.info('late');
  task.progress(() => {});
  task.close();
  book.send();
  assert.equal(sent.length, 0);
  assert.equal(counts.late, 2);
});
