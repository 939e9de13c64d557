/**
 * One look of `millrace top` as text, at most 80 columns wide:
 *
 *   millrace top  /srv/data                                              14:03:22
 *   3 nodes   6 threads, 1 place free   12 345 open, 120 ready, 64 running
 *   804 ended/s   3 dead letters
 *
 *   NODE      HOST              OPEN   READY     RUN  THR  FREE  SHARDS      MEM
 */
import type { NodeOverview, Overview } from '../admin/control.js';
import { DEAD_LETTERS_COUNTED_MAX } from '../admin/control.js';
import { bytes, count, plural } from './units.js';

export const COLUMNS = 80;
const HOST_CHARS = 18;

/** What a screen is drawn from. */
export interface Look {
  readonly location: string;
  readonly overview: Overview;
  /** The one before; for what counts by time. */
  readonly before: Overview | undefined;
  /** Lines that there is room for. */
  readonly rows: number;
}

/** Lines without a line feed, each at most {@link COLUMNS} long. */
export function screenOf({ location, overview, before, rows }: Look): string[] {
  const { nodes, self, deadLetters, atMs } = overview;
  const sum = (of: (node: NodeOverview) => number | undefined): number =>
    nodes.reduce((total, node) => total + (of(node) ?? 0), 0);
  const time = new Date(atMs).toTimeString().slice(0, 8);
  const title = `millrace top  ${location}`.slice(0, COLUMNS - time.length - 2);
  const many = deadLetters >= DEAD_LETTERS_COUNTED_MAX ? ' or more' : '';
  const letters = `${count(deadLetters)}${many} dead letter${deadLetters === 1 ? '' : 's'}`;
  const rate = ratePerSecond(overview, before);
  const lines = [
    `${title.padEnd(COLUMNS - time.length)}${time}`,
    [
      plural(nodes.length, 'node'),
      `${plural(
        sum(({ threads }) => threads),
        'thread',
      )}, ${plural(
        sum(({ freePlaces }) => freePlaces),
        'place',
      )} free`,
      `${count(sum(({ open }) => open))} open, ${count(sum(({ ready }) => ready))} ready, ${count(sum(({ running }) => running))} running`,
    ].join('   '),
    [
      ...(rate === undefined ? [] : [`${count(rate)} ended/s`]),
      ...(self === undefined ? [] : [`${count(self.delayed)} delayed`]),
      ...(self === undefined || self.waiting === 0 ? [] : [`${count(self.waiting)} wait for room`]),
      letters,
    ].join('   '),
    ...(self?.reasons ?? []).map((reason) => `! ${reason}`),
    '',
  ];
  if (nodes.length === 0) lines.push('no process is there');
  else {
    lines.push(rowOf(['NODE', 'HOST', 'OPEN', 'READY', 'RUN', 'THR', 'FREE', 'SHARDS', 'MEM']));
    const room = Math.max(1, rows - lines.length - 1);
    const busiest = [...nodes].sort((a, b) => (b.open ?? -1) - (a.open ?? -1));
    lines.push(...busiest.slice(0, room).map(nodeRow));
    if (busiest.length > room) lines.push(`and ${plural(busiest.length - room, 'more node')}`);
  }
  return lines.map((line) => line.slice(0, COLUMNS).trimEnd());
}

function ratePerSecond(now: Overview, before: Overview | undefined): number | undefined {
  if (now.self === undefined || before?.self === undefined) return undefined;
  const ms = now.atMs - before.atMs;
  if (ms <= 0) return undefined;
  return (Math.max(0, now.self.ended - before.self.ended) * 1_000) / ms;
}

function nodeRow(node: NodeOverview): string {
  const host = node.host ?? '';
  const figure = (value: number | undefined): string => (value === undefined ? '-' : count(value));
  return rowOf([
    node.node,
    // The process is what tells two of one host apart.
    host.length > HOST_CHARS ? `...${host.slice(3 - HOST_CHARS)}` : host,
    figure(node.open),
    figure(node.ready),
    figure(node.running),
    figure(node.threads),
    figure(node.freePlaces),
    figure(node.shards),
    node.bytes === undefined ? '-' : bytes(node.bytes),
  ]);
}

const WIDTHS = [-8, -HOST_CHARS, 9, 8, 7, 4, 5, 6, 9] as const;

function rowOf(cells: readonly string[]): string {
  return cells
    .map((cell, i) => {
      const width = WIDTHS[i]!;
      return width < 0 ? cell.slice(0, -width).padEnd(-width) : cell.padStart(width - 1);
    })
    .join(' ');
}
