/**
 * The smallest service around millrace: an HTTP request hands a task over, another one asks for its result.
 *
 *   node dist/examples/embed/server.js
 *   curl --data-binary @README.md localhost:8080     202 {"id":"..."}       the task is durable, also if we crash now
 *   curl localhost:8080/<id>                         200 {"words":...}      waits until the task has ended
 *
 * PORT and STORE (a folder) come from the environment. Ctrl-C or SIGTERM ends it gently.
 */
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { createRuntime, fileStore, isMillraceError } from 'millrace';
import { countWords } from './tasks.js';

const runtime = await createRuntime({
  tasks: new URL('./tasks.js', import.meta.url),
  store: fileStore(process.env.STORE ?? 'embed.millrace'),
});

const server = createServer(async (request, response) => {
  const answer = (status: number, body: unknown): void =>
    void response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(JSON.stringify(body));
  try {
    if (request.method === 'POST') {
      const task = await runtime.submit(countWords, await text(request));
      answer(202, { id: task.id });
    } else {
      const task = runtime.handle(countWords, request.url?.slice(1) ?? '');
      answer(200, await task.result({ timeout: '30s' }));
    }
  } catch (error) {
    if (!isMillraceError(error)) return answer(500, { message: String(error) });
    const { code, kind, message } = error;
    const isUnknown = code === 'ERR_MILLRACE_TASK_GONE';
    answer(isUnknown ? 404 : kind === 'usage' ? 400 : 503, { code, message });
  }
});

server.listen(Number(process.env.PORT ?? 8080), '127.0.0.1', () => {
  console.log(JSON.stringify(server.address()));
});
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => server.close(() => void runtime.close()));
}
