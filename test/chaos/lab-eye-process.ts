import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { readMachine } from '../support/machine-facts.js';
import { takenSlots } from '../support/e2e-neighbours.js';
import { type EyeQuestion, packed } from './eye-protocol.js';
import { readHostFacts, readInside } from './checks/host-view.js';

/**
 * Runs in a lab beside its host worker and looks at the machine for whoever judges it from outside. It outlives the worker's
 * deaths, and does nothing by itself.
 */
const server = createServer((request, response) => {
  void text(request)
    .then((body) => answer(JSON.parse(body) as EyeQuestion))
    .then(
      (found) => response.end(JSON.stringify(found ?? null)),
      (error: Error) => response.writeHead(500).end(error.stack),
    );
});

async function answer(question: EyeQuestion): Promise<unknown> {
  switch (question.look) {
    case 'host':
      return readHostFacts(question.directories);
    case 'inside':
      return readInside(question.namespace);
    case 'machine':
      return packed(await readMachine({ directories: question.directories, marks: question.marks }));
    case 'slots':
      return takenSlots(question.host);
    case 'kill':
      process.kill(question.pid, 'SIGKILL');
      return undefined;
  }
}

const port = Number(process.argv[2]);
server.listen(port, '0.0.0.0', () => process.stdout.write(`the eye looks at port ${port}\n`));
