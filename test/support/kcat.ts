/** kcat: from PATH, or out of Debian's packages. */
import path from 'node:path';
import { debianPackages, onPath } from './debian.js';

interface Kcat {
  readonly program: string;
  readonly libraries: string | undefined;
}

/** @throws NotToBeHad */
export async function findKcat(): Promise<Kcat> {
  const installed = onPath('kcat');
  if (installed !== undefined) return { program: installed, libraries: undefined };
  const packages = ['kcat', 'librdkafka1', 'libyajl2', 'libsasl2-2', 'liblz4-1'];
  const folder = await debianPackages('kcat', packages);
  const libraries = ['x86_64', 'aarch64'].map((cpu) =>
    path.join(folder, `usr/lib/${cpu}-linux-gnu`),
  );
  return { program: path.join(folder, 'usr/bin/kcat'), libraries: libraries.join(path.delimiter) };
}
