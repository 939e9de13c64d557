/**
 * What being observed costs: the rate of no-op tasks with everything on and with everything off, and the price of each
 * piece by itself.
 *
 * On: a pino logger, metrics, tracing with an SDK of which one request in a hundred is sampled, the watchdog and the other rules,
 * the admin server. Off: none of it, in a host that has the SDK all the same. The store is in memory, where the runtime itself costs least and what watches it shows
 * most. Each submit is made in a request of its own, with a span that is new: in both.
 */
import { availableParallelism } from 'node:os';
import { defineBench, type RunContext } from '../lib/bench.js';
import { millraceVersion } from '../lib/places.js';

interface Settings extends Readonly<Record<string, number | string>> {
  readonly scale: number;
  readonly threads: number;
  readonly inFlight: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly pieceRounds: number;
}

const DURABILITY = 'none: lost with the process';

export default defineBench<Settings>({
  name: 'telemetry',
  question: 'what does it cost to be observed?',
  metrics: {
    tasksPerSecond: {
      unit: 'tasks/s',
      better: 'higher',
      about: 'no-op tasks, submit to result, a fixed number in flight',
    },
    counterNs: { unit: 'ns', better: 'lower', about: 'one more in a counter' },
    histogramNs: { unit: 'ns', better: 'lower', about: 'one value into a histogram' },
    droppedLogNs: {
      unit: 'ns',
      better: 'lower',
      about: 'an event whose line the sampler holds back, from publisher to subscriber and back',
    },
    unsampledSpanNs: {
      unit: 'ns',
      better: 'lower',
      about: 'what an unsampled task costs tracing on the main thread, submit and launch',
    },
    sampledSpanNs: {
      unit: 'ns',
      better: 'lower',
      about:
        'what a sampled task costs there, with its span, its share of that of the batch, and the SDK',
    },
    watchdogOverheadShare: {
      unit: 'share',
      better: 'lower',
      about: 'of the time of the cores it uses, at the rate measured here: counts, samples, hooks',
    },
  },
  ours: ['all-on'],
  contenders: [
    {
      name: 'all-on',
      version: millraceVersion(),
      durability: DURABILITY,
      settings: { sampled: '1 in 100', logger: 'pino, to /dev/null' },
      async run(settings, context) {
        const { setUpSdk, observed } = await import('./targets.js');
        setUpSdk();
        const { tasksPerSecond, batchesPerSecond } = await measure(settings, context, observed);
        const pieces = await import('./pieces.js');
        const share = await pieces.watchdogShare(settings, batchesPerSecond);
        return {
          metrics: {
            tasksPerSecond,
            ...(await pieces.prices(settings.pieceRounds)),
            watchdogOverheadShare: share.share,
          },
          notes: { batchesPerSecond, ...share.notes },
        };
      },
    },
    {
      name: 'all-off',
      version: millraceVersion(),
      durability: DURABILITY,
      metrics: ['tasksPerSecond'],
      async run(settings, context) {
        const { setUpSdk, unobserved } = await import('./targets.js');
        // The host's, who traces what it does itself: following contexts slows every promise on Node 20.
        setUpSdk();
        const { tasksPerSecond } = await measure(settings, context, unobserved);
        return { metrics: { tasksPerSecond } };
      },
    },
  ],
  runs: ({ isQuick }) => (isQuick ? 3 : 5),
  settings: ({ isQuick }) => ({
    scale: isQuick ? 0.25 : 1,
    threads: availableParallelism(),
    inFlight: 2_000,
    warmUpMs: isQuick ? 1_000 : 3_000,
    measureMs: isQuick ? 2_000 : 8_000,
    pieceRounds: isQuick ? 200_000 : 2_000_000,
  }),
  seconds: ({ warmUpMs, measureMs }) => 3 + (warmUpMs + measureMs) / 1_000,
});

async function measure(
  settings: Settings,
  context: RunContext,
  open: typeof import('./targets.js').observed,
): Promise<{ readonly tasksPerSecond: number; readonly batchesPerSecond: number }> {
  const { closedLoop, makePayloads } = await import('../engine/load.js');
  const target = await open(settings.threads);
  const batchesBefore = target.batches();
  const startedAtMs = performance.now();
  const closed = await closedLoop(target, makePayloads(), settings, (work) =>
    context.section('tasksPerSecond', work, (result) => result.tasks),
  );
  const batchesPerSecond =
    ((target.batches() - batchesBefore) / (performance.now() - startedAtMs)) * 1_000;
  await target.close();
  return { tasksPerSecond: (closed.tasks / closed.elapsedMs) * 1_000, batchesPerSecond };
}
