import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./timers-program.js', import.meta.url));

/** Plays a scene of timers-program.ts; what would wait for a minute is ended before. */
function play(scene: string) {
  const result = spawnSync(process.execPath, [PROGRAM, scene], {
    encoding: 'utf8',
    timeout: 40_000,
  });
  return { ...result, lines: result.stdout.split('\n').filter((line) => line !== '') };
}

test('a pending timer keeps the process alive', () => {
  assert.deepEqual(play('keepsAlive').lines, ['called']);
  assert.deepEqual(play('refAgain').lines, ['called']);
});

test('without a timer that keeps it alive, the process ends', () => {
  const { lines, status } = play('letsGo');
  assert.deepEqual(lines, ['the last that counts']);
  assert.equal(status, 0);
  assert.deepEqual(play('unrefInCallback').lines, ['true']);
});

test('a burst of timers that keep nothing alive does not wait for I/O', () => {
  assert.deepEqual(play('burstWithoutReference').lines, ['in time']);
});

test('what callbacks throw is uncaught, be it null, and no other timer is lost', () => {
  const { lines, status } = play('throws');
  assert.ok(lines.includes('uncaught Error: in a callback'));
  assert.ok(lines.includes('0 left'), lines.join('\n'));
  assert.equal(lines.at(-1), 'uncaught undefined');
  assert.ok(lines.filter((line) => line === 'uncaught null').length >= 3);
  assert.equal(status, 0);
});

test('an error that nobody handles ends the process, as with setTimeout', () => {
  const { lines, status, stderr } = play('throwsUnhandled');
  assert.deepEqual(lines, []);
  assert.equal(status, 1);
  assert.match(stderr, /Error: nobody handles this\n\s+at .*timers-program/);
});
