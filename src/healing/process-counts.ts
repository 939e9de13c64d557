/** What the process has open, by the process's own account: handles of the main thread, descriptors, threads of the system. */
import { readdirSync } from 'node:fs';

/** Some 50 us; handles with the prefix `main:`, and `fd` and `thread` where the system tells (Linux). */
export function processCounts(): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) {
    const name = `main:${kind}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const descriptors = entriesIn('/proc/self/fd');
  const threads = entriesIn('/proc/self/task');
  if (descriptors !== undefined) counts.set('fd', descriptors);
  if (threads !== undefined) counts.set('thread', threads);
  return counts;
}

function entriesIn(folder: string): number | undefined {
  try {
    return readdirSync(folder).length;
  } catch {
    return undefined;
  }
}
