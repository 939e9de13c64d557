/**
 * A page that is one file: style inside, no script, nothing from elsewhere. It follows the viewer's light or dark scheme,
 * and is as wide as the window.
 *
 * Colours: text at least 4.5 : 1 on its ground, lines and bars at least 3 : 1, in both schemes (a test measures them).
 */
import { escaped } from './html.js';

const STYLE = `
:root { color-scheme: light dark;
  --ink: #1f2328; --soft: #59636e; --grid: #d1d9e0; --ground: #ffffff; --panel: #f6f8fa; --mark: #cf222e;
  --good: #1a7f37; --bad: #cf222e; --bar: #6e7781;
  --s0: #0969da; --s1: #bc4c00; --s2: #1a7f37; --s3: #8250df; --s4: #1b7c83; --s5: #bf3989; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6edf3; --soft: #9198a1; --grid: #3d444d; --ground: #0d1117; --panel: #151b23; --mark: #f85149;
  --good: #3fb950; --bad: #f85149; --bar: #7d8590;
  --s0: #4493f8; --s1: #f0883e; --s2: #3fb950; --s3: #ab7df8; --s4: #39c5cf; --s5: #f778ba; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem 1rem 3rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 0.9375rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.375rem; line-height: 1.3; margin: 0 0 0.25rem; }
h2 { font-size: 1.0625rem; margin: 0; }
p { margin: 0.25rem 0; }
.soft, figcaption p, .axis-name { color: var(--soft); font-size: 0.8125rem; }
.good, .bad { font-weight: 600; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 500; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
.chart { margin: 0; padding: 1rem; background: var(--panel); border-radius: 0.5rem; min-width: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 0.125rem 1rem; list-style: none; margin: 0.5rem 0; padding: 0; font-size: 0.8125rem; }
.legend svg { width: 1.75rem; height: 0.625rem; margin-right: 0.375rem; }
.plot { position: relative; height: 15rem; margin: 0.5rem 0 1.75rem 3rem; }
.plot > svg { width: 100%; height: 100%; display: block; overflow: visible; }
.y span { position: absolute; right: calc(100% + 0.5rem); transform: translateY(50%); font-size: 0.75rem; color: var(--soft); }
.x span { position: absolute; top: calc(100% + 0.25rem); font-size: 0.75rem; color: var(--soft); white-space: nowrap; }
.x-name { text-align: right; }
.grid { stroke: var(--grid); stroke-width: 1; vector-effect: non-scaling-stroke; }
.mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 2 3; vector-effect: non-scaling-stroke; }
.series { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.s0 { stroke: var(--s0); }
.s1 { stroke: var(--s1); stroke-dasharray: 6 3; }
.s2 { stroke: var(--s2); stroke-dasharray: 2 3; }
.s3 { stroke: var(--s3); stroke-dasharray: 8 3 2 3; }
.s4 { stroke: var(--s4); stroke-dasharray: 12 4; }
.s5 { stroke: var(--s5); stroke-dasharray: 4 4; }
.bars table { width: 100%; margin-top: 0.5rem; }
.bars th, .bars td { border: 0; padding: 0.125rem 0.5rem 0.125rem 0; font-weight: 400; font-size: 0.8125rem; }
.bars td:nth-child(2) { width: 100%; }
.bar { height: 0.875rem; min-width: 1px; background: var(--bar); border-radius: 2px; }
.bar.base { background: var(--s0); }`;

/** @param body - HTML below the heading */
export function page(title: string, facts: string, body: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<link rel="icon" href="data:,">
<style>${STYLE}
</style>
</head>
<body>
<h1>${escaped(title)}</h1>
<p class="soft">${escaped(facts)}</p>
${body.filter((part) => part !== '').join('\n')}
</body>
</html>
`;
}
