import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BaseService } from '../../src/core/service.js';

/** A service whose hooks wait for us, and that notes what is called. */
function setup() {
  const calls: string[] = [];
  const gates = { start: gate(), stop: gate() };
  class Probe extends BaseService {
    get isEnding(): boolean {
      return this.isStopping;
    }
    protected async onStart(): Promise<void> {
      calls.push('start');
      await gates.start.promise;
      calls.push('started');
    }
    protected async onStop(): Promise<void> {
      calls.push('stop');
      await gates.stop.promise;
      calls.push('stopped');
    }
  }
  return { calls, gates, service: new Probe() };
}

function gate() {
  let resolve!: () => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<void>((onDone, onError) => {
    resolve = onDone;
    reject = onError;
  });
  return { promise, resolve, reject };
}

/** Lets everything run that needs no time. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('start and stop resolve when their hooks are done', async () => {
  const { calls, gates, service } = setup();
  const started = service.start();
  await turn();
  assert.deepEqual(calls, ['start']);
  gates.start.resolve();
  await started;
  assert.equal(service.isEnding, false);
  const stopped = service.stop();
  assert.equal(service.isEnding, true);
  gates.stop.resolve();
  await stopped;
  assert.deepEqual(calls, ['start', 'started', 'stop', 'stopped']);
});

test('a second start, or stop, waits for the first and does nothing of its own', async () => {
  const { calls, gates, service } = setup();
  gates.start.resolve();
  gates.stop.resolve();
  assert.equal(service.start(), service.start());
  await service.start();
  assert.equal(service.stop(), service.stop());
  await service.stop();
  assert.deepEqual(calls, ['start', 'started', 'stop', 'stopped']);
});

test('stop without start calls no hook, and start afterwards none either', async () => {
  const { calls, service } = setup();
  await service.stop();
  await service.start();
  assert.deepEqual(calls, []);
});

test('stop during start waits for start, then stops', async () => {
  const { calls, gates, service } = setup();
  gates.stop.resolve();
  const started = service.start();
  const stopped = service.stop();
  await turn();
  assert.deepEqual(calls, ['start']);
  gates.start.resolve();
  await Promise.all([started, stopped]);
  assert.deepEqual(calls, ['start', 'started', 'stop', 'stopped']);
});

test('a failed start rejects for its callers only; stop still closes what it opened', async () => {
  const { calls, gates, service } = setup();
  const started = service.start();
  gates.start.reject(new Error('no port'));
  gates.stop.resolve();
  await assert.rejects(started, /no port/);
  await assert.rejects(service.start(), /no port/);
  await service.stop();
  assert.deepEqual(calls, ['start', 'stop', 'stopped']);
});

test('a hook that throws at once rejects like one that rejects', async () => {
  class Hasty extends BaseService {
    protected onStart(): Promise<void> {
      throw new Error('at once');
    }
    protected onStop(): Promise<void> {
      throw new Error('at once, too');
    }
  }
  const service = new Hasty();
  await assert.rejects(service.start(), /at once/);
  await assert.rejects(service.stop(), /at once, too/);
});
