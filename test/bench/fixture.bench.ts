/** A bench of contenders that behave in every way the frame must cope with. */
import { appendFileSync } from 'node:fs';
import { defineBench, type JsonObject, Unavailable } from '../../bench/lib/bench.js';

interface Settings extends JsonObject {
  readonly scale: number;
  /** A file that each process adds a line to. */
  readonly log: string;
}

function logged(settings: Settings, name: string): void {
  appendFileSync(settings.log, `${name} ${process.pid}\n`);
}

export default defineBench<Settings>({
  name: 'fixture',
  question: 'does the frame work?',
  metrics: {
    speed: { unit: 'x/s', better: 'higher', about: 'of nothing' },
    size: { unit: 'bytes', better: 'lower', about: 'of nothing' },
  },
  ours: ['good'],
  contenders: [
    {
      name: 'good',
      version: '1',
      durability: 'none',
      async run(settings, context) {
        logged(settings, 'good');
        const speed = await context.section('speed', () => 10, Number);
        return { metrics: { speed, size: null }, reasons: { size: 'it has none' } };
      },
    },
    {
      name: 'peer',
      version: '1',
      durability: 'none',
      parts: [{ name: 'fast' }, { name: 'slim', nodeFlags: ['--expose-gc'] }],
      async run(settings, { part }) {
        logged(settings, `peer-${part}`);
        if (part === 'fast') return { metrics: { speed: 4 } };
        return {
          metrics: { size: typeof (globalThis as { gc?: unknown }).gc === 'function' ? 7 : 0 },
        };
      },
    },
    {
      name: 'absent',
      version: 'not installed',
      durability: 'none',
      async run(settings) {
        logged(settings, 'absent');
        throw new Unavailable('there is no server');
      },
    },
    {
      name: 'failing',
      version: '1',
      durability: 'none',
      async run() {
        throw new TypeError('a mistake');
      },
    },
    {
      name: 'crashing',
      version: '1',
      durability: 'none',
      async run() {
        process.exit(3);
      },
    },
  ],
  runs: () => 3,
  settings: () => ({ scale: 1, log: '' }),
  seconds: () => 1,
});
