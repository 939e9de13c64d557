/** Runtimes in the test's own process, on one etcd and in a namespace of the test's own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { createRuntime, type Runtime, type RuntimeOptions } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import type { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import { TASKS, TTL_MS } from './fleet.js';
import { type Effect, effectsIn, type WorkInput } from './tasks.js';

export interface Place {
  readonly namespace: string;
  start(options?: Partial<RuntimeOptions>): Promise<Runtime>;
  /** Of the tasks of tasks.ts. */
  input(name: string, ms?: number): WorkInput;
  /** What handlers left behind. */
  seen(): Effect[];
  /** Keys of these kinds that are in the store. */
  keys(...kinds: readonly string[]): Promise<string[]>;
}

export function place(t: TestContext, etcd: EtcdCluster): Place {
  const namespace = freshNamespace();
  const folder = mkdtempSync(path.join(tmpdir(), 'millrace-cluster-'));
  const effects = path.join(folder, 'effects');
  const runtimes: Runtime[] = [];
  t.after(async () => {
    await Promise.all(runtimes.map((runtime) => runtime.close()));
    rmSync(folder, { recursive: true });
  });
  return {
    namespace,
    async start(options = {}) {
      const runtime = await createRuntime({
        tasks: TASKS,
        store: etcdStore({ endpoints: etcd.endpoints, namespace }),
        threads: { min: 1, max: 1 },
        session: { ttl: TTL_MS },
        shutdown: { soft: '5s', hard: '8s' },
        ...options,
      });
      runtimes.push(runtime);
      return runtime;
    },
    input: (name, ms = 0) => ({ effects, name, ms }),
    seen: () => effectsIn(effects),
    async keys(...kinds) {
      const all = await Promise.all(
        kinds.map((kind) =>
          etcd.etcdctl('get', '--prefix', '--keys-only', `/${namespace}/${kind}/`),
        ),
      );
      return all
        .join('')
        .split('\n')
        .filter((line) => line !== '');
    },
  };
}
