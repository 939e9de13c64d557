/**
 * Loader hooks: the one file that a mutant names is changed on its way in. They run in a thread of their own.
 */
import type { LoadHook } from 'node:module';
import type { Mutant } from './mutants.js';

let mutant: Mutant | undefined;

export function initialize(data: Mutant): void {
  mutant = data;
}

export const load: LoadHook = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context);
  if (mutant === undefined || !url.endsWith(`/dist/src/${mutant.file}`)) return loaded;
  const source = String(loaded.source);
  const parts = source.split(mutant.find);
  if (parts.length !== 2) {
    throw new Error(`mutant ${mutant.name} fits ${parts.length - 1} places of ${mutant.file}`);
  }
  return { ...loaded, source: parts.join(mutant.replace) };
};
