/** A year of 10 000 cron entries in five zones, with every change of the clock, and three takeovers a day. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkYear, drawEntries } from '../support/cron-year.js';

test('every fire of 10 000 entries in a year is there once', { timeout: 3_600_000 }, async (t) => {
  const zones = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata', 'UTC'];
  const { fires } = await checkYear({
    startMs: Date.parse('2026-01-01T00:00:00Z'),
    days: 365,
    entries: drawEntries(10_000, zones, 3, { hourly: 0.002 }),
    takeoversPerDay: 3,
    freshShare: 0.1,
    seed: 5,
  });
  t.diagnostic(`${fires} fires`);
  assert.ok(fires > 900_000, `${fires} fires`);
});
