/** PostgreSQL's programs: from where Debian installs them, or out of its package. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { debianPackages, NotToBeHad } from './debian.js';

const INSTALLED = '/usr/lib/postgresql';

/** The folder of its programs. @throws NotToBeHad */
export async function findPostgres(): Promise<string> {
  const of = (root: string): string | undefined => {
    const versions = existsSync(root) ? readdirSync(root).map(Number) : [];
    const newest = Math.max(...versions.filter((version) => version > 0));
    return Number.isFinite(newest) ? path.join(root, `${newest}/bin`) : undefined;
  };
  const installed = of(INSTALLED);
  if (installed !== undefined) return installed;
  const folder = await debianPackages('postgresql', ['postgresql-15', 'libpq5']);
  const unpacked = of(path.join(folder, INSTALLED));
  if (unpacked === undefined) throw new NotToBeHad(`no PostgreSQL in ${folder}`);
  return unpacked;
}
