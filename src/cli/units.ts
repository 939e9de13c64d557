/**
 * Numbers as people read them: 14 812, 212.4 MB, 1.25 ms, 3 min 20 s.
 */

/** A whole number with a space between thousands. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US').replaceAll(',', ' ');
}

/** Bytes with a unit; powers of 1024, like the sizes that options take. */
export function bytes(value: number): string {
  let scaled = value;
  for (const unit of ['B', 'KB', 'MB', 'GB']) {
    if (scaled < 1_000) return `${unit === 'B' ? scaled : scaled.toFixed(1)} ${unit}`;
    scaled /= 1_024;
  }
  return `${scaled.toFixed(1)} TB`;
}

/** A span in ms with three digits that count, for tables: `0.042`, `1.25`, `312`. */
export function millis(value: number): string {
  const digits = value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0;
  return digits === 0 ? count(value) : value.toFixed(digits);
}

/** A span for people: `80 ms`, `4.2 s`, `3 min 20 s`. */
export function span(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes} min ${seconds % 60} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `1 file`, `2 files`. */
export function plural(value: number, noun: string, nouns: string = `${noun}s`): string {
  return `${count(value)} ${value === 1 ? noun : nouns}`;
}
