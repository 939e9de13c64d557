/**
 * ReadyQueue against a model: one list of what waits, searched anew for each token that is taken. Ageing is left out:
 * the C++ tests compare it with a model of its own.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReadyQueue } from '../../src/timing/ready-queue.js';

const TENANTS = ['', 'acme', 'zoo', 'free'] as const;
type Tenant = (typeof TENANTS)[number];

interface Waiting {
  readonly token: number;
  readonly priority: number;
  readonly tenant: Tenant;
}

/** Of one priority: who is served next, by virtual time. */
interface Level {
  virtualTime: number;
  passMax: number;
  readonly passes: Map<Tenant, number>;
}

class Model {
  waiting: Waiting[] = [];
  readonly weights = new Map<Tenant, number>();
  readonly #levels = new Map<number, Level>();

  push(one: Waiting): void {
    const level = this.#level(one.priority);
    const isBack = !this.waiting.some(
      ({ priority, tenant }) => priority === one.priority && tenant === one.tenant,
    );
    const pass = level.passes.get(one.tenant) ?? 0;
    if (isBack) level.passes.set(one.tenant, Math.max(pass, level.virtualTime));
    this.waiting.push(one);
  }

  take(): number | undefined {
    if (this.waiting.length === 0) return undefined;
    const priority = Math.max(...this.waiting.map((one) => one.priority));
    const level = this.#level(priority);
    const heads = TENANTS.flatMap((tenant) => {
      const at = this.waiting.findIndex(
        (one) => one.priority === priority && one.tenant === tenant,
      );
      return at < 0 ? [] : [{ tenant, at, pass: level.passes.get(tenant)! }];
    });
    const [next] = heads.sort((a, b) => a.pass - b.pass || a.at - b.at);
    const { tenant, at, pass } = next!;
    const [taken] = this.waiting.splice(at, 1);
    level.virtualTime = Math.max(level.virtualTime, pass);
    const moved = pass + 1 / (this.weights.get(tenant) ?? 1);
    level.passes.set(tenant, moved);
    level.passMax = Math.max(level.passMax, moved);
    const isIdle = !this.waiting.some((one) => one.priority === priority);
    if (isIdle) level.virtualTime = level.passMax;
    return taken!.token;
  }

  #level(priority: number): Level {
    let level = this.#levels.get(priority);
    if (level === undefined) {
      level = { virtualTime: 0, passMax: 0, passes: new Map() };
      this.#levels.set(priority, level);
    }
    return level;
  }
}

const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('push' as const),
      priority: fc.oneof(fc.constant(0), fc.integer({ min: -2, max: 2 })),
      tenant: fc.constantFrom(...TENANTS),
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('take' as const),
      count: fc.integer({ min: 0, max: 9 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('weigh' as const),
      tenant: fc.constantFrom(...TENANTS),
      // Powers of two, so that sums of inverses are exact.
      weight: fc.constantFrom(0.25, 0.5, 1, 2, 4, 8),
    }),
  },
);

test('tokens come in the order that the model says, whatever is pushed, taken and weighed', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120, size: 'max' }), (operations) => {
      const queue = new ReadyQueue();
      const model = new Model();
      let token = 0;
      for (const one of operations) {
        if (one.op === 'push') {
          const { priority, tenant } = one;
          for (let i = 0; i < one.count; i++, token++) {
            queue.push(token, { priority, tenant });
            model.push({ token, priority, tenant });
          }
        } else if (one.op === 'take') {
          const out = new Uint32Array(one.count);
          const count = queue.take(out);
          const expected = Array.from({ length: one.count }, () => model.take());
          assert.deepEqual(
            [...out.subarray(0, count)],
            expected.filter((taken) => taken !== undefined),
          );
        } else {
          // What is buffered counts as pushed before.
          queue.setWeight(one.tenant, one.weight);
          model.weights.set(one.tenant, one.weight);
        }
        assert.equal(queue.size, model.waiting.length);
      }
      queue.close();
    }),
    { numRuns: 200 },
  );
});
