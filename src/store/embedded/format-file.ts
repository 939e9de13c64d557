/**
 * The directory says in plain text which format it has, so that any version can tell before it touches the data:
 * a file `FORMAT` with one line, `millrace store format 1`. It is there, durably, before the data is.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { MillraceError } from '../../core/errors.js';
import { corrupt } from './record.js';

/** The format this version writes, and the newest it reads. */
const FORMAT = 1;

const FILE = 'FORMAT';
const LINE = /^millrace store format (\d{1,9})\n$/;

/**
 * Checks the format of a directory, and notes it in an empty one.
 *
 * @param dataFile - whose presence tells that the directory is not new
 * @throws ERR_MILLRACE_STORE_FORMAT for a format this version does not know
 * @throws ERR_MILLRACE_STORE_CORRUPT when the note is missing next to data, or is not one
 */
export function checkFormat(directory: string, dataFile: string): void {
  const file = path.join(directory, FILE);
  if (!existsSync(file)) {
    if (existsSync(path.join(directory, dataFile))) {
      throw corrupt(FILE, `${directory} holds data and no file that tells its format`);
    }
    writeDurably(directory, `millrace store format ${FORMAT}\n`);
    return;
  }
  const version = LINE.exec(readFileSync(file, 'latin1'))?.[1];
  if (version === undefined) throw corrupt(FILE, `${file} is not a line 'millrace store format N'`);
  if (Number(version) === FORMAT) return;
  throw new MillraceError(
    'ERR_MILLRACE_STORE_FORMAT',
    `store directory ${directory} has format ${version}, this version of millrace reads format ${FORMAT}; use the version that wrote it, or another directory`,
    { details: { directory, format: Number(version), formatMax: FORMAT } },
  );
}

function writeDurably(directory: string, text: string): void {
  const draft = path.join(directory, `.${FILE}`);
  const descriptor = openSync(draft, 'w');
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(draft, path.join(directory, FILE));
  // The new name, too, has to survive.
  const folder = openSync(directory, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
