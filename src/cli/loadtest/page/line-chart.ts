/**
 * A chart of lines as HTML: the lines are an SVG that is stretched to the width there is, everything written is text around
 * it, so that it is as large on a phone as on a screen.
 *
 *   y labels  |  svg, stretched; strokes keep their width
 *             |_________________________________________
 *                x labels
 *
 * Lines differ by colour and by dashes. Each has its values as a `<title>`, which browsers show on hovering.
 */
import { escaped } from './html.js';
import type { Scale } from './scale.js';

export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

export interface LineChart {
  readonly title: string;
  readonly about: string;
  readonly xName: string;
  readonly yName: string;
  readonly x: Scale;
  readonly y: Scale;
  readonly series: readonly Series[];
  /** Moments, drawn as upright lines. */
  readonly marks?: readonly { readonly x: number; readonly name: string }[];
}

/** Of the SVG's own space; it is stretched. */
const SIDE = 1_000;
/** The colours and dashes there are; further lines begin anew. */
const STYLES = 6;
/** A path of more points than pixels is slow and shows nothing more. */
const POINTS_MAX = 1_000;

export function lineChart(chart: LineChart): string {
  const { title, about, xName, yName, x, y, series, marks = [] } = chart;
  const lines = series.map((each, i) => path(each, chart, i % STYLES)).join('');
  return `<figure class="chart">
<figcaption><h2>${escaped(title)}</h2><p>${escaped(about)}</p></figcaption>
<ul class="legend">${series.map(({ name }, i) => key(name, i % STYLES)).join('')}</ul>
<p class="axis-name">${escaped(yName)}</p>
<div class="plot">
<div class="y" aria-hidden="true">${y.ticks.map(({ at, label }) => `<span style="bottom:${percent(at)}">${escaped(label)}</span>`).join('')}</div>
<svg viewBox="0 0 ${SIDE} ${SIDE}" preserveAspectRatio="none" role="img" aria-label="${escaped(`${title}: ${about}`)}">
${y.ticks.map(({ at }) => `<line class="grid" x1="0" x2="${SIDE}" y1="${down(at)}" y2="${down(at)}"/>`).join('')}
${marks.map((mark) => `<line class="mark" x1="${across(x, mark.x)}" x2="${across(x, mark.x)}" y1="0" y2="${SIDE}"><title>${escaped(mark.name)}</title></line>`).join('')}
${lines}
</svg>
<div class="x" aria-hidden="true">${x.ticks.map(({ at, label }) => `<span style="left:${percent(at)};transform:translateX(-${percent(at)})">${escaped(label)}</span>`).join('')}</div>
</div>
<p class="axis-name x-name">${escaped(xName)}</p>
</figure>`;
}

function path({ name, points }: Series, { x, y }: LineChart, style: number): string {
  if (points.length === 0) return '';
  const every = Math.ceil(points.length / POINTS_MAX);
  const places = thinned(points, every).map(
    (point) => `${across(x, point.x)} ${down(y.place(point.y))}`,
  );
  // One point alone would be a path that draws nothing.
  const [only] = places;
  const drawn = places.length === 1 ? `M${only}L${only}` : `M${places.join('L')}`;
  return `<path class="series s${style}" d="${drawn}"><title>${escaped(name)}</title></path>`;
}

/** Of each group of neighbours the largest: what stands out must not be left out. */
function thinned(points: Series['points'], every: number): Series['points'] {
  if (every === 1) return points;
  const kept: Series['points'][number][] = [];
  for (let i = 0; i < points.length; i += every) {
    const group = points.slice(i, i + every);
    kept.push(group.reduce((most, point) => (point.y > most.y ? point : most)));
  }
  return kept;
}

function key(name: string, style: number): string {
  return `<li><svg viewBox="0 0 28 10" aria-hidden="true"><line class="series s${style}" x1="0" x2="28" y1="5" y2="5"/></svg>${escaped(name)}</li>`;
}

function across(scale: Scale, value: number): number {
  return Math.round(scale.place(value) * SIDE * 10) / 10;
}

function down(share: number): number {
  return Math.round((1 - share) * SIDE * 10) / 10;
}

function percent(share: number): string {
  return `${Math.round(share * 10_000) / 100}%`;
}
