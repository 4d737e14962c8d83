import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';
import { ChildProcessExec } from '../../../host-worker/exec.js';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

it('a step for which no file descriptor is left ends in words, and the next one works', async () => {
  // The limit is the child's own: this process keeps its descriptors.
  const run = `ulimit -n 64 && cd ${path('../../..')} && exec ${process.execPath} --import ./test/tools/typescript.mjs ${path('./out-of-descriptors.ts')}`;
  const { stdout } = await new ChildProcessExec().run(['bash', '-c', run]);
  expect(JSON.parse(stdout)).toEqual({
    type: 'command_failed',
    message: expect.stringMatching(
      /^setUpNetwork failed on host h1: starting `true` failed: .*too many files open.*`ulimit -n`/,
    ),
    after: 'works again\n',
  });
}, 60_000);
