import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from '../../src/testing/world.js';

test('wakes in the order of time, never early, in the process that asked', async () => {
  const world = new World(1);
  const [a, b] = [world.spawn('a'), world.spawn('b')];
  const woken: string[] = [];
  a.clock.wakeIn(20, () => woken.push(`a ${world.nowMs}`));
  b.clock.wakeIn(10.3, () => woken.push(`b ${world.nowMs >= 10.3}`));
  a.clock.wakeIn(5, () => woken.push('cancelled')).cancel();
  await world.advance(30);
  assert.deepEqual(woken, ['b true', 'a 20']);
  assert.equal(world.nowMs, 30);
});

test('a wake-up is never early on the clock of its process, whatever its origin', async () => {
  const world = new World(7);
  for (let i = 0; i < 200; i++) {
    const { clock } = world.spawn(`p${i}`);
    const dueMs = clock.monoMs() + world.random.float() * 100;
    clock.wakeIn(dueMs - clock.monoMs(), () => assert.ok(clock.monoMs() >= dueMs));
  }
  await world.advance(200);
});

test('a killed process hears nothing more', async () => {
  const world = new World(1);
  const process = world.spawn('a');
  let isWoken = false;
  process.clock.wakeIn(5, () => {
    isWoken = true;
  });
  process.kill();
  await world.advance(10);
  assert.equal(isWoken, false);
});

test('a paused process gets what it missed in a burst', async () => {
  const world = new World(1);
  const process = world.spawn('a');
  const woken: number[] = [];
  for (const delayMs of [5, 6, 7]) process.clock.wakeIn(delayMs, () => woken.push(world.nowMs));
  process.pause();
  await world.advance(50);
  assert.deepEqual(woken, []);
  process.resume();
  await world.advance(1);
  assert.deepEqual(woken, [50, 50, 50]);
});

test('wall clocks jump by themselves', () => {
  const world = new World(1);
  const [a, b] = [world.spawn('a'), world.spawn('b')];
  const monoMs = a.clock.monoMs();
  a.jumpWall(-3_600_000);
  assert.equal(b.clock.wallMs() - a.clock.wallMs(), 3_600_000);
  assert.equal(a.clock.monoMs(), monoMs);
});

test('equals come in an order that the seed decides', async () => {
  const order = async (seed: number): Promise<string> => {
    const world = new World(seed);
    const woken: number[] = [];
    for (let i = 0; i < 8; i++) world.clock.wakeIn(1, () => woken.push(i));
    await world.advance(2);
    return woken.join('');
  };
  assert.equal(await order(1), await order(1));
  assert.notEqual(await order(1), await order(2));
});
