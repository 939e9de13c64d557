/** Runs as a process of its own, in which an uncaught error and an early or late end can be seen: see timers-process.test.ts. */
import { createServer } from 'node:net';
import { createTimers, type TimerHandle } from '../../src/timing/index.js';

const say = (text: unknown): void => {
  process.stdout.write(`${text}\n`);
};

const scenes: Readonly<Record<string, () => void>> = {
  keepsAlive() {
    createTimers().setTimer(30, say, 'called');
  },

  letsGo() {
    createTimers({ keepAlive: false }).setTimer(60_000, say, 'called');
    const timers = createTimers();
    timers.unref(timers.setTimer(60_000, say, 'called'));
    timers.clear(timers.setTimer(60_000, say, 'called'));
    createTimers().setTimer(5, () => say('the last that counts'));
    const closed = createTimers();
    closed.setTimer(60_000, say, 'called');
    closed.close();
  },

  refAgain() {
    const timers = createTimers({ keepAlive: false });
    const handle = timers.setTimer(30, say, 'called');
    timers.ref(handle);
    timers.unref(handle);
    timers.ref(handle);
    timers.ref(handle);
  },

  unrefInCallback() {
    const timers = createTimers();
    const far = timers.setTimer(60_000, say, 'called');
    timers.setTimer(1, () => say(timers.unref(far)));
  },

  /** Nothing but a server keeps this process alive, and nothing happens on it: the burst must come along by itself. */
  burstWithoutReference() {
    const timers = createTimers({ keepAlive: false, budget: 0 });
    const server = createServer().listen(0, '127.0.0.1', () => {
      let left = 500;
      const startedAt = performance.now();
      for (let i = 0; i < 500; i++) {
        timers.setTimer(1, () => {
          if (--left > 0) return;
          server.close();
          say(performance.now() - startedAt < 5000 ? 'in time' : 'late');
        });
      }
    });
  },

  /** Errors of several kinds arrive as uncaught ones, in order, and every other timer is called. */
  throws() {
    process.on('uncaughtException', (error) => say(`uncaught ${error}`));
    const timers = createTimers();
    let thrown = 0;
    const interval: TimerHandle = timers.setTimer(2, () => {
      timers.refresh(interval);
      // Due after all the others, so it is the last to be called.
      if (++thrown === 3) timers.setTimer(20, end);
      throw null;
    });
    let left = 300;
    for (let i = 0; i < 300; i++) {
      timers.setTimer(1 + (i % 3), () => {
        left--;
        if (i === 150) throw new Error('in a callback');
      });
    }
    const end = (): never => {
      say(`${left} left`);
      timers.close();
      throw undefined;
    };
  },

  /** As with setTimeout, an error that nobody handles ends the process. */
  throwsUnhandled() {
    const timers = createTimers();
    timers.setTimer(1, () => {
      throw new Error('nobody handles this');
    });
    timers.setTimer(60_000, say, 'called');
  },
};

scenes[process.argv[2] ?? '']?.();
