import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TaskId } from '../../../src/core/ids.js';
import type { CronDefinition, CronEntry } from '../../../src/engine/cron/entry.js';
import { decodeEntry, encodeEntry } from '../../../src/engine/cron/entry.js';
import { Schedule } from '../../../src/engine/cron/schedule.js';
import { jitterOf, nextStep } from '../../../src/engine/cron/step.js';
import { cronDefinition } from '../../support/cron-definition.js';

const HOUR_MS = 3_600_000;
const NOON_MS = Date.parse('2026-05-01T12:00:00Z');
const hourly = new Schedule('0 * * * *', 'UTC');
const last = { task: 'default.0c.0mjuomx7a.jg90kk2d00000001.00' as TaskId, atMs: NOON_MS };

function entry(changes: Partial<CronDefinition & Omit<CronEntry, 'definition'>>): CronEntry {
  const { cursorMs = NOON_MS, queued = [], last: given, ...definition } = changes;
  return {
    definition: cronDefinition(definition),
    cursorMs,
    queued,
    last: given,
  };
}

const at = (hours: number, ms = 0): number => NOON_MS + hours * HOUR_MS + ms;

describe('the step of a cron entry', () => {
  test('is none before its next fire', () => {
    assert.equal(nextStep(entry({}), hourly, { nowMs: at(1, -1), lastIsOpen: false }), undefined);
    assert.equal(nextStep(entry({}), hourly, { nowMs: at(-5), lastIsOpen: false }), undefined);
  });

  test('is the fire when it is due, and the cursor on it', () => {
    const step = nextStep(entry({}), hourly, { nowMs: at(1), lastIsOpen: false });
    assert.equal(step?.fireAtMs, at(1));
    assert.deepEqual(step?.state, { cursorMs: at(1), queued: [], last: undefined });
    assert.deepEqual(step?.skipped, { missed: 0, overlapping: 0 });
  });

  test('after an absence is the latest fire, or none, or all in a line', () => {
    const now = { nowMs: at(3, 90_000), lastIsOpen: false };
    const one = nextStep(entry({ catchUp: 'one' }), hourly, now);
    assert.equal(one?.fireAtMs, at(3));
    assert.equal(one?.skipped.missed, 2);
    const none = nextStep(entry({ catchUp: 'none' }), hourly, now);
    assert.equal(none?.fireAtMs, undefined);
    assert.equal(none?.state.cursorMs, at(3));
    assert.equal(none?.skipped.missed, 3);
    const all = nextStep(entry({ catchUp: 'all' }), hourly, now);
    assert.equal(all?.fireAtMs, at(1));
    assert.deepEqual(all?.state.queued, [at(2), at(3)]);
  });

  test('where nothing is caught up still is a fire that is a little late', () => {
    const step = nextStep(entry({ catchUp: 'none' }), hourly, {
      nowMs: at(1, 60_000),
      lastIsOpen: false,
    });
    assert.equal(step?.fireAtMs, at(1));
  });

  test('leaves a fire out, puts it in line or replaces while the last task is open', () => {
    const now = { nowMs: at(1), lastIsOpen: true };
    const skip = nextStep(entry({ overlap: 'skip', last }), hourly, now);
    assert.equal(skip?.fireAtMs, undefined);
    assert.equal(skip?.skipped.overlapping, 1);
    const queue = nextStep(entry({ overlap: 'queue', last, queued: [at(0)] }), hourly, now);
    assert.equal(queue?.fireAtMs, undefined);
    assert.deepEqual(queue?.state.queued, [at(0), at(1)]);
    const replace = nextStep(entry({ overlap: 'replace', last }), hourly, now);
    assert.equal(replace?.fireAtMs, at(1));
    assert.equal(replace?.replaces, true);
  });

  test('takes the first of the line when the last task has ended', () => {
    const waiting = entry({ overlap: 'queue', last, queued: [at(-1), at(0)] });
    assert.equal(nextStep(waiting, hourly, { nowMs: at(0, 5), lastIsOpen: true }), undefined);
    const step = nextStep(waiting, hourly, { nowMs: at(0, 5), lastIsOpen: false });
    assert.equal(step?.fireAtMs, at(-1));
    assert.deepEqual(step?.state.queued, [at(0)]);
  });

  test('leaves what finds no room in the line where it is', () => {
    const secondly = new Schedule('* * * * * *', 'UTC');
    const step = nextStep(entry({ catchUp: 'all' }), secondly, { nowMs: at(1), lastIsOpen: false });
    assert.equal(step?.fireAtMs, NOON_MS + 1_000);
    assert.equal(step?.state.queued.length, 999);
    assert.equal(step?.state.cursorMs, NOON_MS + 1_000_000);
  });

  test('finds the latest fire at once, however long nobody was there', () => {
    const secondly = new Schedule('* * * * * *', 'UTC');
    const years = { nowMs: at(3 * 365 * 24, 250), lastIsOpen: false };
    const step = nextStep(entry({}), secondly, years);
    assert.equal(step?.fireAtMs, at(3 * 365 * 24));
    assert.equal(step?.skipped.missed, 100);
    const yearly = new Schedule('0 0 1 1 *', 'UTC');
    assert.equal(nextStep(entry({}), yearly, years)?.fireAtMs, Date.parse('2029-01-01T00:00:00Z'));
  });
});

test('jitter is the same on every node, within its bound, and another for each entry and fire', () => {
  const values = Array.from({ length: 500 }, (_, i) => jitterOf(`entry ${i}`, NOON_MS, 1_000));
  assert.deepEqual(
    values,
    values.map((_, i) => jitterOf(`entry ${i}`, NOON_MS, 1_000)),
  );
  assert.ok(values.every((ms) => Number.isInteger(ms) && ms >= 0 && ms <= 1_000));
  const mean = values.reduce((sum, ms) => sum + ms, 0) / values.length;
  assert.ok(mean > 430 && mean < 570, `${mean}`);
  assert.notEqual(jitterOf('a', at(1), 1e6), jitterOf('a', at(2), 1e6));
  assert.equal(jitterOf('a', at(1), 0), 0);
});

describe('a stored cron entry', () => {
  test('is read as it was written', () => {
    const written = entry({ overlap: 'queue', queued: [at(1), at(2)], last, tenant: 'acme' });
    assert.deepEqual(decodeEntry('e/default/00/hourly', encodeEntry(written)), written);
    const fresh = entry({});
    assert.deepEqual(decodeEntry('e/default/00/hourly', encodeEntry(fresh)), fresh);
  });

  test('that is damaged or of a newer format is refused with its key', () => {
    const good = JSON.parse(Buffer.from(encodeEntry(entry({ last }))).toString());
    const bad: readonly unknown[] = [
      null,
      [],
      7,
      { ...good, cursorMs: 'now' },
      { ...good, queued: ['x'] },
      { ...good, queued: undefined },
      { ...good, last: { task: 'nobody', atMs: 1 } },
      { ...good, definition: undefined },
      { ...good, definition: { ...good.definition, overlap: 'both' } },
      { ...good, definition: { ...good.definition, type: '' } },
    ];
    for (const value of bad) {
      assert.throws(() => decodeEntry('e/q/00/x', Buffer.from(JSON.stringify(value))), {
        code: /^ERR_MILLRACE_STORE_(CORRUPT|FORMAT)$/,
        message: /e\/q\/00\/x/,
      });
    }
    assert.throws(() => decodeEntry('e/q/00/x', Buffer.from('{')), {
      code: 'ERR_MILLRACE_STORE_CORRUPT',
    });
    assert.throws(
      () => decodeEntry('e/q/00/x', Buffer.from(JSON.stringify({ ...good, format: 2 }))),
      {
        code: 'ERR_MILLRACE_STORE_FORMAT',
      },
    );
  });
});
