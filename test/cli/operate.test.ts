/** `millrace ls`, `show`, `why`, `cancel` and `top` on embedded stores: in use, and not in use. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createRuntime, defineTask, defineTasks, fileStore } from '../../src/index.js';
import { setup as place } from './process.js';

const work = defineTask({ name: 'work', exec: 'inline', run: (input: unknown) => input });
const failing = defineTask({
  name: 'failing',
  exec: 'inline',
  retry: { attempts: 1 },
  run() {
    throw new RangeError('broken');
  },
});

async function setup(t: TestContext) {
  const { folder, millrace } = place(t);
  const directory = join(folder, 'data');
  const start = async () => {
    const runtime = await createRuntime({
      tasks: defineTasks({ work, failing }),
      store: fileStore(directory),
      shutdown: { soft: 0, hard: 0 },
    });
    t.after(() => runtime.close());
    return runtime;
  };
  const ask = async (...args: string[]) => millrace([...args, '--store', 'data']);
  const asked = async <T = Record<string, unknown>>(...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await ask(...args, '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  };
  return { directory, folder, start, ask, asked, millrace };
}

interface Page {
  readonly tasks: readonly {
    readonly id: string;
    readonly status: string;
    readonly task?: string;
  }[];
  readonly next?: string;
}

test('what is asked is answered the same, whether a process has the store or not', async (t) => {
  const { start, ask, asked } = await setup(t);
  const runtime = await start();
  const later = await runtime.submit(work, 1, { delay: '1h', tenant: 'acme' });
  const bad = await runtime.submit(failing, 1);
  await bad.settled();

  const look = async () => {
    const page = await asked<Page>('ls', '--tenant', 'acme');
    assert.deepEqual(
      page.tasks.map(({ id, status }) => [id, status]),
      [[later.id, 'pending']],
    );
    const failed = await ask('ls', '--state', 'failed');
    assert.match(
      failed.stdout,
      new RegExp(`^${bad.id.replaceAll('.', '\\.')} +failed +failing`, 'm'),
    );
    const shown = await ask('show', bad.id);
    assert.match(shown.stdout, /^state +failed \(dead letter\)$/m);
    assert.match(shown.stdout, /^error +task 'failing' failed .*\n +caused by broken$/m);
    const why = await ask('why', later.id);
    assert.match(why.stdout, /^(delayed|far): it is due in 60m/);
  };
  await look();
  const busy = await asked<{ nodes: { open: number }[]; self?: { delayed: number } }>('top');
  assert.deepEqual([busy.nodes.length, busy.nodes[0]?.open, busy.self?.delayed], [1, 1, 1]);
  const frame = await ask('top');
  assert.match(frame.stdout, /^1 node {3}/m);
  await runtime.close();
  await look();
  const idle = await ask('top');
  assert.match(idle.stdout, /no process is there/);
});

test('tasks are cancelled by id and by filter, and a dry run only says which', async (t) => {
  const { start, ask, asked } = await setup(t);
  const runtime = await start();
  const submit = (tenant: string) => runtime.submit(work, 1, { delay: '1h', tenant });
  const handles = [await submit('a'), await submit('a'), await submit('b'), await submit('c')];
  const dry = await ask('cancel', '--tenant', 'a', '--dry-run');
  assert.match(dry.stderr, /2 tasks would be cancelled/);
  assert.equal(await handles[0]!.status(), 'pending');
  assert.deepEqual(await asked('cancel', '--tenant', 'a', '--reason', 'not needed'), {
    cancelled: 2,
    signalled: 0,
    ended: 0,
    gone: 0,
  });
  await assert.rejects(handles[1]!.result(), /was cancelled: not needed/);
  assert.equal((await asked<Page>('ls', '--state', 'pending')).tasks.length, 2);
  await runtime.close();
  // Nobody has it now: the command opens it.
  assert.match((await ask('cancel', handles[2]!.id)).stdout, /^1 task cancelled/);
  const again = await ask('cancel', handles[2]!.id, 'default.00.0mg2x9k1f.7c4k2m9p00000001.0f');
  assert.match(again.stdout, /^0 tasks cancelled, .* 1 had ended, 1 unknown/);
  assert.equal(again.code, 1);
  const neither = await ask('cancel');
  assert.equal(neither.code, 2);
});

test('pages of ls go on where the one before ended', async (t) => {
  const { start, asked, ask } = await setup(t);
  const runtime = await start();
  const many = await runtime.submitMany(
    work,
    Array.from({ length: 300 }, (_, i) => i),
    { delay: '1h' },
  );
  const seen: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await asked<Page>('ls', '--limit', '140', ...(after ? ['--after', after] : []));
    seen.push(...page.tasks.map(({ id }) => id));
    after = page.next;
    if (after === undefined) break;
  }
  assert.deepEqual(seen.sort(), [...many.ids()].map(String).sort());
  const first = await ask('ls', '--limit', '2');
  assert.match(first.stderr, /^there are more: --after '/);
});

test('the socket is for the owner of the store only, checks what it is asked, and goes with the process', async (t) => {
  const { directory, start } = await setup(t);
  const runtime = await start();
  const socketPath = join(directory, 'control.sock');
  assert.equal(statSync(socketPath).mode & 0o777, 0o600);
  const send = (path: string, body: string): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const asked = request({ socketPath, method: 'POST', path }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        answer.on('end', () => resolve({ status: answer.statusCode!, text }));
      });
      asked.on('error', reject);
      asked.end(body);
    });
  for (const [path, body, status, text] of [
    ['/v1/inspect', '{"id":"42"}', 400, /is not a task id/],
    ['/v1/inspect', '{', 400, /is not JSON/],
    ['/v1/inspect', '[1]', 400, /is not a JSON object/],
    ['/v1/list', '{"statuss":"failed"}', 400, /did you mean status/],
    ['/v1/list', '{"limit":100000}', 400, /from 1 to 1000/],
    ['/v1/list', '{"after":"z"}', 400, /`next` of the page before/],
    ['/v1/inspect', '{"id":"default.00.0mg2x9k1f.7c4k2m9p00000001.0f"}', 404, /TASK_GONE/],
    ['/v1/list', 'x'.repeat(70_000), 413, /too large/],
    ['/v2/list', '{}', 404, /not found/],
  ] as const) {
    const answer = await send(path, body);
    assert.equal(answer.status, status, `${path} ${body.slice(0, 60)}: ${answer.text}`);
    assert.match(answer.text, text);
    assert.doesNotMatch(answer.text, /"stack"/);
  }
  await runtime.close();
  assert.equal(existsSync(socketPath), false);
});

test("a socket that a killed process left behind is in nobody's way", async (t) => {
  const { directory, start, asked } = await setup(t);
  const runtime = await start();
  await runtime.close();
  writeFileSync(join(directory, 'control.sock'), '');
  chmodSync(join(directory, 'control.sock'), 0o600);
  assert.deepEqual((await asked<Page>('ls')).tasks, []);
  const next = await start();
  await next.submit(work, 1, { delay: '1h' });
  assert.equal((await asked<Page>('ls')).tasks.length, 1);
});

test('a command that cannot work says so, and creates nothing', async (t) => {
  const { folder, millrace, ask } = await setup(t);
  const missing = await ask('ls');
  assert.equal(missing.code, 3);
  assert.match(missing.stderr, /there is no store in .*data; give --store/);
  assert.equal(existsSync(join(folder, 'data')), false);
  const memory = await millrace(['ls', '--store', 'memory']);
  assert.equal(memory.code, 2);
  const state = await ask('ls', '--state', 'done');
  assert.equal(state.code, 2);
  assert.match(state.stderr, /status is 'done'; give 'pending' or/);
});
