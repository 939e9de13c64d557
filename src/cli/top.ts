/**
 * `millrace top`: looks at the store every few seconds, until q or Ctrl-C.
 *
 * It draws on the terminal's other screen, so that what was there is there again afterwards, and writes each look in one go.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Overview, Reading } from '../admin/control.js';
import { wholeOption } from './arguments.js';
import { type Arguments, ExitCode } from './command.js';
import { Interruption } from './interruption.js';
import { type Access, openReading, withAccess } from './store-access.js';
import { screenOf } from './top-screen.js';

const OTHER_SCREEN = '\x1b[?1049h\x1b[?25l';
const BACK = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const QUIT = ['q', 'Q', '\x03'] as const;
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

export async function run(args: Arguments): Promise<ExitCode> {
  const everyMs = 1_000 * (wholeOption(args, 'every', { min: 1, max: 3_600 }) ?? 2);
  return withAccess(openReading(args), async (access) => {
    if (args.options.has('json')) {
      process.stdout.write(`${JSON.stringify(await access.control.overview())}\n`);
    } else if (process.stdout.isTTY) await watch(access, everyMs);
    else {
      const look = { location: access.location, before: undefined, rows: 1_000 };
      const lines = screenOf({ ...look, overview: await access.control.overview() });
      process.stdout.write(`${lines.join('\n')}\n`);
    }
    return ExitCode.DONE;
  });
}

async function watch({ control, location }: Access<Reading>, everyMs: number): Promise<void> {
  const interruption = new Interruption();
  const keys = listenForQuit(() => interruption.request());
  process.stdout.write(OTHER_SCREEN);
  try {
    let before: Overview | undefined;
    while (!interruption.signal.aborted) {
      const overview = await control.overview();
      const rows = process.stdout.rows ?? 24;
      const lines = screenOf({ location, overview, before, rows });
      before = overview;
      const drawn = lines.slice(0, rows).join(`${CLEAR_LINE}\r\n`);
      process.stdout.write(`${HOME}${drawn}${CLEAR_LINE}${CLEAR_BELOW}`);
      await delay(everyMs, undefined, { signal: interruption.signal }).catch(() => {});
    }
  } finally {
    process.stdout.write(BACK);
    keys.stop();
    interruption.dispose();
  }
}

/** In raw mode Ctrl-C is a key like others. */
function listenForQuit(quit: () => void): { stop(): void } {
  const { stdin } = process;
  if (!stdin.isTTY) return { stop: () => {} };
  const onData = (typed: Buffer): void => {
    if (QUIT.some((key) => typed.includes(key))) quit();
  };
  stdin.setRawMode(true);
  stdin.on('data', onData);
  stdin.resume();
  return {
    stop() {
      stdin.off('data', onData);
      stdin.setRawMode(false);
      stdin.pause();
    },
  };
}
