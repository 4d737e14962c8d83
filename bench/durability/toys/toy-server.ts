import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { STATUS, ToyError, type Toy } from './toy.js';

interface Body {
  name?: string;
  timeout_seconds?: number;
  command?: string;
}

/** The toy over HTTP on a port of the loopback address: `/sandboxes`, `/sandboxes/ID`, `/sandboxes/ID/VERB`. */
export async function serve(toy: Toy, port: number): Promise<void> {
  const server = createServer((request, response) => {
    const answer = (status: number, body: unknown) => response.writeHead(status).end(JSON.stringify(body ?? null));
    act(toy, request).then(
      (result) => answer(200, result),
      (err: unknown) => answer(err instanceof ToyError ? err.status : STATUS.failed, told(err)),
    );
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
}

async function act(toy: Toy, request: IncomingMessage): Promise<unknown> {
  const [, , id = '', verb = ''] = (request.url ?? '').split('/');
  const { name = '', timeout_seconds: timeoutSeconds = 0, command = '' } = await read(request);
  switch (`${request.method} ${verb}`) {
    case 'POST ':
      return toy.create(name, timeoutSeconds);
    case 'POST pause':
      return toy.pause(id);
    case 'POST resume':
      return toy.resume(id);
    case 'POST exec':
      return toy.exec(id, command);
    case 'DELETE ':
      return toy.destroy(id);
    case 'GET ':
      return id === '' ? toy.list() : toy.get(id);
    default:
      throw new ToyError(STATUS.notFound, `there is no ${request.method} ${request.url}`);
  }
}

async function read(request: IncomingMessage): Promise<Body> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text === '' ? {} : (JSON.parse(text) as Body);
}

function told(err: unknown): { error: string; id?: string } {
  const message = err instanceof Error ? err.message : String(err);
  return { error: message, ...(err instanceof ToyError && err.id !== undefined ? { id: err.id } : {}) };
}
