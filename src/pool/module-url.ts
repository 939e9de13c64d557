/**
 * Where a handler module is, in the form that `import()` takes in any thread.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The URL to import a module from. Strings that are no URL are paths, which count from the working directory. */
export function moduleUrl(module: URL | string): string {
  if (module instanceof URL) return module.href;
  if (/^(file|data|node):/.test(module)) return module;
  return pathToFileURL(resolve(module)).href;
}
