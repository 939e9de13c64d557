/** Synthetic series: clean programs under every kind of load, and leaks in them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { seededRandom } from '../../src/core/random.js';
import { Growth, WINDOW } from '../../src/healing/growth.js';

const SAMPLES = 360;

/** In-flight tasks at a sample. @param chance - 0 to 1, fresh for each */
type Load = (sample: number, chance: number) => number;

const LOADS: Readonly<Record<string, Load>> = {
  steady: () => 100,
  sine: (i) => 100 + 80 * Math.sin(i / 23),
  slowSine: (i) => 100 + 80 * Math.sin(i / 90),
  ramp: (i) => Math.min(i, 180),
  step: (i) => (i < 150 ? 40 : 240),
  bursty: (_, chance) => (chance < 0.1 ? 400 : 20),
  idle: () => 0,
};

interface Program {
  readonly seed: number;
  /** Handles that a task in flight holds. */
  readonly perTask: number;
  readonly floor: number;
  readonly noise: number;
}

/** When growth was suspected first; undefined: never. */
function firstSuspicion(load: Load, program: Program, leakPerSample: number): number | undefined {
  const { seed, perTask, floor, noise } = program;
  const random = seededRandom(new Uint32Array([seed, 1, 2, 3]));
  const chance = (): number => random.u32() / 2 ** 32;
  const growth = new Growth();
  for (let i = 0; i < SAMPLES; i++) {
    const inFlight = Math.max(0, load(i, chance()) + (chance() - 0.5) * 10);
    // The sum of three is nearly normal.
    const wobble = (chance() + chance() + chance() - 1.5) * 2 * noise;
    const count = floor + perTask * inFlight + leakPerSample * i + wobble;
    growth.add(Math.max(0, Math.round(count)), Math.round(inFlight));
    if (growth.isSuspected) return i;
  }
  return undefined;
}

const programs = fc.record({
  seed: fc.nat(),
  perTask: fc.constantFrom(0, 1, 2, 3),
  floor: fc.integer({ min: 5, max: 100 }),
  noise: fc.constantFrom(0, 1, 3),
});

describe('growth', () => {
  for (const [name, load] of Object.entries(LOADS)) {
    it(`a clean program is never suspected (${name} load)`, () => {
      fc.assert(
        fc.property(programs, (program) => firstSuspicion(load, program, 0) === undefined),
        { numRuns: 200 },
      );
    });

    it(`a leak of 0.2 handles per sample is found (${name} load)`, () => {
      fc.assert(
        fc.property(programs, (program) => {
          const at = firstSuspicion(load, program, 0.2);
          return at !== undefined && at >= WINDOW - 1;
        }),
        { numRuns: 200 },
      );
    });
  }

  it('a load that only ever rises is not taken for a leak', () => {
    fc.assert(
      fc.property(programs, (program) => firstSuspicion((i) => i, program, 0) === undefined),
    );
  });

  it('what has shrunk again is not suspected any longer', () => {
    const growth = new Growth();
    for (let i = 0; i < WINDOW * 2; i++) growth.add(i, 0);
    assert.ok(growth.isSuspected);
    for (let i = 0; i < WINDOW; i++) growth.add(0, 0);
    assert.equal(growth.isSuspected, false);
    growth.reset();
    assert.equal(growth.fit, undefined);
  });
});
