/**
 * A Chromium without a window, for tests of pages: from PATH, else out of Debian's packages with the libraries that a server
 * has no use for.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { debianPackages, onPath } from './debian.js';

export interface ChromiumProgram {
  readonly program: string;
  readonly libraries: readonly string[];
}

const PACKAGES = [
  ...['chromium', 'chromium-common', 'libapparmor1', 'libasound2', 'libasyncns0', 'libatk1.0-0'],
  ...['libatk-bridge2.0-0', 'libatspi2.0-0', 'libavahi-client3', 'libavahi-common3', 'libcairo2'],
  ...['libcups2', 'libdav1d6', 'libdatrie1', 'libdouble-conversion3', 'libdrm2', 'libflac12'],
  ...[
    'libfontconfig1',
    'libfreetype6',
    'libfribidi0',
    'libgbm1',
    'libgraphite2-3',
    'libharfbuzz0b',
  ],
  ...['libharfbuzz-subset0', 'libjpeg62-turbo', 'liblcms2-2', 'libminizip1', 'libmp3lame0'],
  ...['libmpg123-0', 'libnspr4', 'libnss3', 'libogg0', 'libopenh264-7', 'libopenjp2-7', 'libopus0'],
  ...['libpango-1.0-0', 'libpixman-1-0', 'libpng16-16', 'libpulse0', 'libsndfile1', 'libthai0'],
  ...['libvorbis0a', 'libvorbisenc2', 'libwayland-server0', 'libx11-6', 'libxau6', 'libxcb1'],
  ...['libxcb-render0', 'libxcb-shm0', 'libxcomposite1', 'libxdamage1', 'libxdmcp6', 'libxext6'],
  ...['libxfixes3', 'libxi6', 'libxkbcommon0', 'libxnvctrl0', 'libxrandr2', 'libxrender1'],
  ...['fonts-dejavu-core'],
];

let found: Promise<ChromiumProgram> | undefined;

/** @throws NotToBeHad when it is not installed and cannot be downloaded */
export function chromiumProgram(): Promise<ChromiumProgram> {
  found ??= find();
  return found;
}

async function find(): Promise<ChromiumProgram> {
  const installed = onPath('chromium') ?? onPath('google-chrome');
  if (installed !== undefined) return { program: installed, libraries: [] };
  const folder = await debianPackages('chromium', PACKAGES);
  const lib = path.join(folder, 'usr/lib');
  // Debian's folder for this machine's kind, such as x86_64-linux-gnu.
  const machine = path.join(
    lib,
    readdirSync(lib).find((name) => name.endsWith('-linux-gnu')) ?? '',
  );
  return {
    program: path.join(lib, 'chromium/chromium'),
    libraries: [machine, path.join(machine, 'pulseaudio')],
  };
}
