import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nameOf } from './boundary.js';
import type { Case } from './case.js';
import type { Rig } from './rig.js';

/** All that is known of a case that went wrong, kept in a file, and the essence of it for people. */
export class Evidence {
  constructor(private readonly rig: Rig) {}

  async of(one: Case): Promise<string> {
    const { records, platform } = this.rig;
    const directory = join(platform.home.directory, 'evidence');
    await mkdir(directory, { recursive: true });
    const file = join(directory, `${one.subject}.json`);
    const [operations, sandboxes, events, history, view] = await Promise.all([
      records.operations([one.subject]),
      records.sandboxes([one.subject]),
      records.query('SELECT * FROM sandbox_events WHERE sandbox_id = $1 ORDER BY id', [one.subject]),
      records.history(one.workflowId).catch((error: unknown) => String(error)),
      this.rig.hostView().then((host) => host.of(one.subject)),
    ]);
    const answer = await Promise.race([one.answer?.catch(String), Promise.resolve(null)]);
    const { plan, violations, track } = one;
    const all = { plan, violations, answer, operations, sandboxes, events, director: track?.passages, view, history };
    await writeFile(file, JSON.stringify(all, undefined, 1));
    const passed = track?.passages.map((passage) => `${nameOf(passage)}${passage.held ? ' (held)' : ''}`).join(', ');
    return [
      `✗ ${one.name}`,
      ...(one.unprepared === undefined ? [] : [`    could not be prepared: ${one.unprepared}`]),
      ...(one.missed ? ['    did not come to its boundary'] : []),
      ...violations.map(({ kind, what }) => `    ${kind}: ${what}`),
      `    operations: ${operations.map(({ kind, state, failure }) => `${kind} ${state}${failure === null ? '' : ` (${failure.code} at ${failure.step}: ${failure.message})`}`).join('; ')}`,
      `    passed: ${passed}`,
      `    all of it: ${file}; logs: ${platform.logFiles().join(' ')}`,
    ].join('\n');
  }
}
