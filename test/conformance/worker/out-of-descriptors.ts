import { openSync, closeSync } from 'node:fs';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { toFailure } from '../../../host-worker/failure.js';

/** Takes all file descriptors that are left, and tells what a step that starts a command ends with then. */
async function main(): Promise<void> {
  const exec = new ChildProcessExec();
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch {
    // As many as there are.
  }
  const outcome = await exec.run(['true']).then(
    () => undefined,
    (err: unknown) => toFailure(err, 'setUpNetwork', 'h1'),
  );
  for (const fd of taken) closeSync(fd);
  const after = await exec.run(['echo', 'works again']);
  process.stdout.write(JSON.stringify({ message: outcome?.message, type: Object(outcome).type, after: after.stdout }));
}

await main();
