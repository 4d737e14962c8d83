import { setTimeout as delay } from 'node:timers/promises';
import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import type { Case } from './case.js';
import { stuck } from './checks/violation.js';
import type { OperationRow } from './records.js';
import type { Rig } from './rig.js';

/** What is not over by then counts as stuck. */
const DEADLINE_MS = 120_000;
const LOOK_EVERY_MS = 100;

/** Waits until every operation of a round is over: in the database, in Temporal, and for its caller. */
export class Quiet {
  constructor(
    private readonly rig: Rig,
    private readonly cases: readonly Case[],
    /** When the process that was killed was started again. */
    private readonly since: number,
    private readonly deadlineMs = DEADLINE_MS * rig.pace,
  ) {}

  async wait(): Promise<void> {
    const deadline = Date.now() + this.deadlineMs;
    let waiting = [...this.cases];
    const reasons = new Map<Case, string>();
    while (waiting.length > 0) {
      const rows = await this.rig.records.operations(waiting.map(({ subject }) => subject));
      const still: Case[] = [];
      for (const one of waiting) {
        const why = await this.#whyOpen(one, ownOperations(one, rows), rows);
        if (why === undefined) continue;
        reasons.set(one, why);
        still.push(one);
      }
      waiting = still;
      if (Date.now() > deadline) break;
      if (waiting.length > 0) await delay(LOOK_EVERY_MS);
    }
    for (const one of waiting) one.blame(stuck(`${this.deadlineMs / 1000} s after the restart: ${reasons.get(one)}`));
  }

  async #whyOpen(one: Case, own: readonly OperationRow[], rows: readonly OperationRow[]): Promise<string | undefined> {
    const last = own.at(-1);
    if (last === undefined) return 'nothing of it is recorded';
    const open = rows.find(({ subject, state }) => subject === one.subject && state === 'running');
    if (open !== undefined) return `${open.kind} ${open.id} is open`;
    if (one.story.keeper === true && last.state !== 'succeeded') return `its keeper has to try again: ${last.state}`;
    if (last.finishedAt !== null) one.recoveryMs = Math.max(0, last.finishedAt - this.since);
    if (await this.rig.records.isOpen(one.workflowId)) return `the run ${one.workflowId} is open`;
    const unsettled = one.plan.operation === 'build' ? undefined : await this.#whyUnsettled(one);
    if (unsettled !== undefined) return unsettled;
    const answered = await Promise.race([one.answer?.then(() => true), delay(1, false)]).catch(() => true);
    return answered === false ? 'its caller waits for an answer' : undefined;
  }

  /** The end of an operation wakes a keeper that is not needed any more, and a missing sandbox is found again. */
  async #whyUnsettled({ subject }: Case): Promise<string | undefined> {
    const [sandbox] = await this.rig.records.sandboxes([subject]);
    if (sandbox?.state === 'missing') return 'it is missing';
    if (sandbox?.state === 'running') return undefined;
    const keeper = ttlWorkflowId(subject);
    return (await this.rig.records.isOpen(keeper)) ? `the run ${keeper} is open, with nothing to keep` : undefined;
  }
}

/** Of the request that is tried, as opposed to those that prepared it. */
export function ownOperations(one: Case, rows: readonly OperationRow[]): OperationRow[] {
  return rows.filter(({ subject, kind }) => subject === one.subject && kind === one.story.kind);
}
