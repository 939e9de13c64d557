import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeOverview, Overview } from '../../src/admin/control.js';
import { COLUMNS, screenOf } from '../../src/cli/top-screen.js';

const node = (n: number, figures: Partial<NodeOverview> = {}): NodeOverview => ({
  node: `node${String(n).padStart(4, '0')}`,
  host: `a-very-long-host-name-${n}.example:4711${n}`,
  queues: ['default'],
  open: 1_234_567 + n,
  ready: 98_765,
  running: 512,
  threads: 64,
  freePlaces: 3,
  bytes: 3_456_789_012,
  shards: 64,
  ...figures,
});

const overview = (nodes: readonly NodeOverview[], more: Partial<Overview> = {}): Overview => ({
  atMs: 1_767_225_600_000,
  nodes,
  deadLetters: 1,
  self: undefined,
  ...more,
});

test('no line is longer than 80 columns, and no more lines than there are rows', () => {
  const nodes = Array.from({ length: 100 }, (_, n) => node(n));
  const self = { delayed: 9, ended: 0, waiting: 12, reasons: ['r'.repeat(200)] };
  const lines = screenOf({
    location: `etcd://${'host:2379,'.repeat(20)}/production`,
    overview: overview(nodes, { self }),
    before: undefined,
    rows: 24,
  });
  for (const line of lines) assert.ok(line.length <= COLUMNS, `${line.length}: ${line}`);
  assert.ok(lines.length <= 24, `${lines.length} lines`);
  assert.match(lines.join('\n'), /^and \d+ more nodes$/m);
  assert.match(lines.join('\n'), /12 wait for room/);
});

test('the busiest nodes come first, and what a node does not say is a dash', () => {
  const nodes = [node(1, { open: undefined, bytes: undefined }), node(2, { open: 5 }), node(3)];
  const lines = screenOf({
    location: 'data',
    overview: overview(nodes),
    before: undefined,
    rows: 24,
  });
  const rows = lines.filter((line) => line.startsWith('node0'));
  assert.deepEqual(
    rows.map((row) => row.slice(0, 8)),
    ['node0003', 'node0002', 'node0001'],
  );
  assert.match(rows[2]!, / - .* -$/);
});

test('what ended per second comes from two looks', () => {
  const self = (ended: number) => ({ delayed: 0, ended, waiting: 0, reasons: [] });
  const before = overview([node(1)], { self: self(1_000) });
  const now = overview([node(1)], { self: self(5_000), atMs: before.atMs + 2_000 });
  const look = { location: 'data', rows: 24 };
  assert.match(screenOf({ ...look, overview: now, before }).join('\n'), /2 000 ended\/s/);
  assert.doesNotMatch(
    screenOf({ ...look, overview: now, before: undefined }).join('\n'),
    /ended\/s/,
  );
});
