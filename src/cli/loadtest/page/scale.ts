/** From values to places on an axis, 0 to 1, and the values that are written beside it. */

export interface Tick {
  readonly at: number;
  readonly label: string;
}

export interface Scale {
  /** From 0, where the axis begins, to 1. Values beyond are put at its ends. */
  place(value: number): number;
  readonly ticks: readonly Tick[];
}

const TICKS_MAX = 5;

/** From 0 to a round number above the largest. */
export function linearScale(largest: number, label: (value: number) => string = short): Scale {
  const step = roundStep(Math.max(largest, Number.MIN_VALUE) / TICKS_MAX);
  const steps = Math.max(1, Math.ceil(largest / step - 1e-9));
  const end = step * steps;
  return {
    place: (value) => clamped(value / end),
    ticks: Array.from({ length: steps + 1 }, (_, i) => ({
      at: i / steps,
      label: label(Number((i * step).toPrecision(6))),
    })),
  };
}

/** Whole powers of ten around the values. REQUIRES: largest > 0. */
export function logScale(smallest: number, largest: number): Scale {
  const from = Math.floor(Math.log10(Math.max(smallest, largest / 1e6)));
  const to = Math.max(from + 1, Math.ceil(Math.log10(largest) - 1e-9));
  return {
    place: (value) => clamped((Math.log10(Math.max(value, 10 ** from)) - from) / (to - from)),
    ticks: Array.from({ length: to - from + 1 }, (_, i) => ({
      at: i / (to - from),
      label: short(Number((10 ** (from + i)).toPrecision(1))),
    })),
  };
}

/** Percentiles by their nines: 0, 90, 99, 99.9 are as far apart as one another. 100 is at the end. */
export function percentileScale(largestBelow100: number): Scale {
  const nines = (percentile: number): number => -Math.log10(1 - percentile / 100);
  const end = Math.max(1, nines(Math.min(largestBelow100, 99.9999))) * 1.05;
  const told = [0, 50, 90, 99, 99.9, 99.99, 99.999].filter((value) => nines(value) <= end);
  return {
    place: (value) => (value >= 100 ? 1 : clamped(nines(value) / end)),
    ticks: told.map((value) => ({ at: nines(value) / end, label: `${value}` })),
  };
}

/** 0.25, 4, 120, 12k, 3.4M. */
export function short(value: number): string {
  for (const [unit, size] of [
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

/** 1, 2 or 5 times a power of ten, not below. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5].find((factor) => factor * power >= least * (1 - 1e-9)) ?? 10);
}

function clamped(share: number): number {
  return Math.min(1, Math.max(0, share));
}
