/** An SDK for the test's process, whose finished spans can be looked at. */
import {
  AlwaysOnSampler,
  InMemorySpanExporter,
  NodeTracerProvider,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node';

export interface SpanBook {
  readonly provider: NodeTracerProvider;
  /** Finished spans whose name begins so. */
  named(name: string): ReadableSpan[];
  clear(): void;
}

/** Registers it: once per process. */
export function registerSdk(root: Sampler = new AlwaysOnSampler()): SpanBook {
  const exporter = new InMemorySpanExporter();
  const provider = new NodeTracerProvider({
    sampler: new ParentBasedSampler({ root }),
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  provider.register();
  return {
    provider,
    named: (name) => exporter.getFinishedSpans().filter((span) => span.name.startsWith(name)),
    clear: () => exporter.reset(),
  };
}
