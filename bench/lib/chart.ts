/**
 * A report as one SVG: a panel per figure, a bar per contender, the smallest and largest run as a line through its end.
 *
 * It holds everything it needs and follows the viewer's light or dark scheme. Millrace's bars have the colour; each
 * bar has its value next to it, so nothing depends on telling colours apart.
 */
import type { Bench, MetricSpec } from './bench.js';
import type { BenchReport, ContenderReport, MetricReport } from './report.js';
import { short } from './table.js';

const WIDTH = 860;
const MARGIN = 24;
const LABEL_WIDTH = 190;
const VALUE_WIDTH = 120;
const BAR_HEIGHT = 16;
const ROW_HEIGHT = 24;
const PANEL_HEAD = 34;
const PANEL_GAP = 22;
const HEADER_HEIGHT = 74;
const BAR_LEFT = MARGIN + LABEL_WIDTH;
const BAR_WIDTH_MAX = WIDTH - BAR_LEFT - VALUE_WIDTH - MARGIN;

const STYLE = `
  svg { --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --ground: #ffffff; --ours: #0969da; --peer: #a3adb8; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --ground: #0d1117; --ours: #4493f8; --peer: #5c6773; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
  .title { font-size: 18px; font-weight: 600; }
  .metric { font-weight: 600; }
  .soft { fill: var(--soft); font-size: 12px; }
  .ground { fill: var(--ground); }
  .ours { fill: var(--ours); }
  .peer { fill: var(--peer); }
  .range { stroke: var(--ink); stroke-width: 1.5; }
  .axis { stroke: var(--line); }`;

/** The text of an SVG file. */
export function drawReport(bench: Bench, report: BenchReport): string {
  const { machine, settings } = report;
  const facts =
    `${machine.cpu}, ${machine.cores} cores, Node ${report.node}, ${report.date.slice(0, 10)}; ` +
    `medians of ${settings.runs}, the line spans all runs`;
  const body: string[] = [];
  let top = HEADER_HEIGHT;
  for (const [metric, spec] of Object.entries(bench.metrics)) {
    const rows = report.contenders.filter(({ metrics }) => metrics[metric] !== undefined);
    if (!rows.some(({ metrics }) => metrics[metric] !== null)) continue;
    body.push(panel(bench, metric, spec, rows, top));
    top += PANEL_HEAD + rows.length * ROW_HEIGHT + PANEL_GAP;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}" role="img">`,
    `<title>${escaped(`millrace bench ${bench.name}: ${bench.question}`)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="ground" width="${WIDTH}" height="${top}"/>`,
    text(MARGIN, 34, `${bench.name}: ${bench.question}`, 'title'),
    text(MARGIN, 56, facts, 'soft'),
    ...body,
    '</svg>',
    '',
  ].join('\n');
}

function panel(
  bench: Bench,
  metric: string,
  { unit, better, about }: MetricSpec,
  rows: readonly ContenderReport[],
  top: number,
): string {
  const longest = Math.max(...rows.map(({ metrics }) => metrics[metric]?.max ?? 0));
  const scale = longest > 0 ? BAR_WIDTH_MAX / longest : 0;
  const first = top + PANEL_HEAD;
  const bottom = first + rows.length * ROW_HEIGHT;
  return [
    text(MARGIN, top + 14, metric, 'metric'),
    text(BAR_LEFT, top + 14, `${unit}, ${better} is better: ${about}`, 'soft'),
    `<line class="axis" x1="${BAR_LEFT}" y1="${first - 6}" x2="${BAR_LEFT}" y2="${bottom - 2}"/>`,
    ...rows.flatMap(({ name, metrics }, index) => {
      const y = first + index * ROW_HEIGHT;
      const kind = bench.ours.includes(name) ? 'ours' : 'peer';
      return [text(MARGIN, y + 12, name), ...bar(metrics[metric] ?? null, scale, y, kind)];
    }),
  ].join('\n');
}

function bar(metric: MetricReport | null, scale: number, y: number, kind: string): string[] {
  if (metric === null) return [text(BAR_LEFT + 6, y + 12, 'not measured', 'soft')];
  const { median, min, max } = metric;
  const middle = y + BAR_HEIGHT / 2;
  const rectangle = `<rect class="${kind}" x="${BAR_LEFT}" y="${y}" width="${px(median * scale)}" height="${BAR_HEIGHT}" rx="2"/>`;
  const range = `<line class="range" x1="${px(BAR_LEFT + min * scale)}" y1="${middle}" x2="${px(BAR_LEFT + max * scale)}" y2="${middle}"/>`;
  const value = text(px(BAR_LEFT + max * scale + 8), y + 12, short(median));
  return min === max ? [rectangle, value] : [rectangle, range, value];
}

function text(x: number, y: number, content: string, kind = ''): string {
  const attribute = kind === '' ? '' : ` class="${kind}"`;
  return `<text x="${x}" y="${y}"${attribute}>${escaped(content)}</text>`;
}

function px(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
