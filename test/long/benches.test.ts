/**
 * Every bench runs, with every contender that needs neither a server nor a package from outside the project, at sizes
 * that take a moment: so that none of them rots.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bench, Json, JsonObject } from '../../bench/lib/bench.js';
import { buildReport, reportHead } from '../../bench/lib/report.js';
import { runRounds } from '../../bench/lib/rounds.js';

const TINY: Readonly<Record<string, JsonObject>> = {
  engine: { threads: 1, inFlight: 50, warmUpMs: 50, measureMs: 200, latencyMs: 100 },
  timers: {
    timers: { '1M': 10_000, '5M': 20_000 },
    spanMs: 10_000,
    idleTicks: 500,
    passes: 1,
    timeoutFireSpanMs: 50,
    windowTimers: 10_000,
    spreadTimers: 10_000,
    churnPerMs: 10,
    churnMs: 20_000,
  },
  pool: {
    warmUpMs: 50,
    measureMs: 100,
    latencyMs: 100,
    // Long enough for tasks that do nothing, also on a busy machine.
    blameTimeoutMs: 1_000,
    blameGraceMs: 20,
    overloadMs: 500,
  },
  store: { measureMs: 40, mixedOperations: 2 },
  metadata: { entries: 10_000, reads: 96_000 },
  scale: { pending: [10_000], nodes: [], inFlight: 50, warmUpMs: 50, measureMs: 150 },
  gc: { perSecond: 20_000, delayMaxMs: 500, warmUpMs: 50, measureMs: 300, variantMs: 100 },
  queue: {
    tasks: 500,
    fewTasks: 50,
    warmUpTasks: 100,
    singleMs: 50,
    delayedTasks: 200,
    latencyMs: 100,
    commits: 10,
    pendingTasks: 1_000,
  },
};
/** Of contenders that need a server for a part of their figures: the other parts. */
const PARTS_WITHOUT_SERVERS: Readonly<
  Record<string, { readonly parts: readonly string[]; readonly metrics: readonly string[] }>
> = {
  metadata: {
    parts: ['cache'],
    metrics: ['cachedReadsPerSecond', 'allocBytesPerRead', 'bytesPerEntry'],
  },
};
/** Where the others need servers. */
const WITHOUT_SERVERS: Readonly<Record<string, readonly string[]>> = {
  metadata: ['millrace'],
  scale: ['millrace-memory', 'millrace-embedded'],
  queue: ['millrace-embedded'],
  store: ['millrace-embedded'],
};

for (const [name, tiny] of Object.entries(TINY)) {
  test(`${name} gives a figure for everything it does not explain`, async () => {
    const { href } = new URL(`../../bench/${name}/${name}.bench.js`, import.meta.url);
    const { default: bench } = (await import(href)) as { default: Bench };
    const settings: JsonObject & { readonly scale: Json } = {
      ...bench.settings({ isQuick: true, options: {} }),
      ...tiny,
    };
    const head = reportHead(bench, settings, 1);
    const outcomes = await runRounds(bench, {
      module: href,
      contenders: bench.contenders
        .filter(
          ({ name: contender, peers }) =>
            (peers ?? []).length === 0 && (WITHOUT_SERVERS[name]?.includes(contender) ?? true),
        )
        .map((contender) => withoutServers(name, contender)),
      settings,
      runs: 1,
      isProfiled: false,
      onProgress: () => {},
    });
    const { contenders } = buildReport(bench, head, outcomes);
    for (const { name: contender, metrics, reasons = {}, failures } of contenders) {
      assert.equal(failures, undefined, contender);
      for (const [metric, value] of Object.entries(metrics)) {
        if (value !== null) assert.ok(Number.isFinite(value.median), `${contender} ${metric}`);
        else assert.notEqual(reasons[metric], 'not measured in this run', `${contender} ${metric}`);
      }
    }
  });
}

function withoutServers(
  bench: string,
  contender: Bench['contenders'][number],
): Bench['contenders'][number] {
  const rest = PARTS_WITHOUT_SERVERS[bench];
  if (rest === undefined) return contender;
  const parts = (contender.parts ?? []).filter(({ name }) => rest.parts.includes(name));
  return { ...contender, parts, metrics: rest.metrics };
}
