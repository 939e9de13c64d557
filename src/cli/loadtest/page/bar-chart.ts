/** A chart of bars as HTML: a row per name, its value written behind the bar. */
import { escaped } from './html.js';

export interface Bar {
  readonly name: string;
  /** Undefined: not measured. */
  readonly value: number | undefined;
  readonly label: string;
  /** Whether it is the one that the others are compared with. */
  readonly isBase: boolean;
}

export interface BarChart {
  readonly title: string;
  readonly about: string;
  readonly bars: readonly Bar[];
}

export function barChart({ title, about, bars }: BarChart): string {
  const longest = Math.max(0, ...bars.map(({ value }) => value ?? 0));
  const rows = bars.map(({ name, value, label, isBase }) => {
    const share = longest > 0 ? ((value ?? 0) / longest) * 100 : 0;
    const kind = isBase ? 'bar base' : 'bar';
    return `<tr><th scope="row">${escaped(name)}</th><td><div class="${kind}" style="width:${share.toFixed(2)}%"></div></td><td>${escaped(label)}</td></tr>`;
  });
  return `<figure class="chart bars">
<figcaption><h2>${escaped(title)}</h2><p>${escaped(about)}</p></figcaption>
<table><tbody>${rows.join('')}</tbody></table>
</figure>`;
}
