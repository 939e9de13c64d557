import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Writer } from '../../../src/store/etcd/protobuf.js';
import { callRepeating } from '../../../src/store/etcd/repeat.js';
import {
  CallFailure,
  type CallOptions,
  type Transport,
} from '../../../src/store/etcd/transport.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';

const ANSWER = new Uint8Array([1]);
const cut = new CallFailure(14, 'connection reset', { wasSent: true });
const denied = new CallFailure(7, 'permission denied', { wasSent: true, isFromServer: true });

/** A transport that answers from a list, the last member over and over. */
function setup(script: readonly (Uint8Array | CallFailure)[]) {
  const clock = new VirtualClock();
  const deadlines: number[] = [];
  const transport: Transport = {
    async call(_method, _request, options: CallOptions) {
      const next = script[Math.min(deadlines.length, script.length - 1)]!;
      deadlines.push(options.deadlineMs);
      if (next instanceof CallFailure) throw next;
      return next;
    },
    open: () => assert.fail('no stream is asked for'),
    close: async () => {},
  };
  const read = callRepeating(transport, clock, '/etcdserverpb.KV/Range', new Writer().finish(), {
    role: 'kv',
    deadlineMs: 5_000,
  });
  return { clock, deadlines, read };
}

test('a read that was cut is made again at once, the first time', async () => {
  const { deadlines, read } = setup([cut, ANSWER]);
  assert.equal(await read, ANSWER);
  assert.deepEqual(deadlines, [5_000, 5_000]);
});

test('a read that is cut again has what is left of its time', async () => {
  const { clock, deadlines, read } = setup([cut, cut, ANSWER]);
  await clock.advance(1_000);
  assert.equal(await read, ANSWER);
  assert.equal(deadlines.length, 3);
  assert.equal(deadlines[0], 5_000);
  assert.ok(deadlines[2]! < deadlines[1]! && deadlines[1]! <= 5_000);
});

test('a failure that would repeat itself is told at once', async () => {
  const { deadlines, read } = setup([denied, ANSWER]);
  await assert.rejects(read, denied);
  assert.equal(deadlines.length, 1);
});

test('a read gives up with the last failure when its time is over, and pauses grow', async () => {
  const { clock, deadlines, read } = setup([cut]);
  const ended = assert.rejects(read, cut);
  await clock.advance(6_000);
  await ended;
  assert.ok(deadlines.length >= 5 && deadlines.length <= 16, `${deadlines.length} tries`);
});
