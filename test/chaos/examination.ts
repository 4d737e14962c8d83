import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import type { SandboxNetworkDto } from '../../api/sandbox/network.dto.js';
import type { Case } from './case.js';
import { forgotten } from './checks/guest-memory.js';
import type { HostView } from './checks/host-view.js';
import { judgeAnswer, judgeEnd, judgePossessions } from './checks/judgement.js';
import { duplicated, leaked, lost, stuck } from './checks/violation.js';
import type { Passage } from './director.js';
import { inParallel } from './in-parallel.js';
import { ownOperations } from './quiet.js';
import type { OperationRow, SandboxRow } from './records.js';
import type { Rig } from './rig.js';
import { createRequest, destroyRequest, LET_OUT, sandboxOf, verbRequest } from './stories.js';

const AT_ONCE = 8;

/** Looks at every case of a round by itself, once all is quiet: what is recorded, what is on the machine, what the guest knows. */
export class Examination {
  constructor(
    private readonly rig: Rig,
    private readonly cases: readonly Case[],
  ) {}

  async run(): Promise<void> {
    const { records } = this.rig;
    const subjects = this.cases.map(({ subject }) => subject);
    const [view, rows, sandboxes] = await Promise.all([
      this.rig.hostView(),
      records.operations(subjects),
      records.sandboxes(subjects),
    ]);
    const states = new Map(sandboxes.map((row) => [row.id, row]));
    await inParallel(this.cases, AT_ONCE, async (one) => {
      try {
        if (one.plan.operation === 'build') await this.#examineBuild(one, view, rows);
        else await this.#examineSandbox(one, view, rows, states.get(one.subject));
      } catch (error) {
        one.blame(lost(`it cannot be examined: ${(error as Error).message}`));
      }
    });
  }

  async #examineSandbox(
    one: Case,
    view: HostView,
    rows: readonly OperationRow[],
    sandbox: SandboxRow | undefined,
  ): Promise<void> {
    if (sandbox === undefined) return one.blame(lost('there is no row of it'));
    await this.#examineOperation(one, sandbox.state, rows);
    one.blame(...judgePossessions(sandbox.state, await view.of(one.subject)));
    one.blame(...(await this.rig.doubled(one.subject)).map(duplicated));
    await this.#examineKeeper(one, sandbox);
    if (one.plan.operation === 'network') await this.#examinePolicy(one, (await view.of(one.subject)).rules);
    await this.#examineGuest(one, sandbox.state);
  }

  async #examineOperation(one: Case, state: string, rows: readonly OperationRow[]): Promise<void> {
    const { story } = one;
    let own = ownOperations(one, rows);
    // A keeper tries again what failed; whoever asks once gets one operation.
    if (story.keeper === true) own = own.filter((row, index) => row.state !== 'failed' || index === own.length - 1);
    // What the reconciliation repaired is judged by how the repair ended.
    const repair = own.findLast(({ kind, reason }) => kind === 'recover' && reason !== 'requested');
    if (repair !== undefined) own = [repair];
    else if (own[0] !== undefined && story.keeper !== true) {
      one.blame(...judgeAnswer(await one.answer?.catch(() => undefined), own[0]));
    }
    one.turnedBack = own.some((row) => !['succeeded', 'ready'].includes(row.state));
    // Of a step whose worker was killed before it could answer the workflow knows nothing, and may turn back.
    const isCommit = ({ step, edge, wentOn }: Passage) => step === story.commit && edge === 'after' && wentOn;
    const committed = one.track?.passages.some(isCommit) ?? false;
    one.blame(...judgeEnd(state, own, { success: story.success, undone: story.undone, committed }));
  }

  /** Somebody keeps the timeout of a sandbox that runs and has one, and of no other. */
  async #examineKeeper(one: Case, { state, timeout_seconds }: SandboxRow): Promise<void> {
    const keeper = ttlWorkflowId(one.subject);
    const open = await this.rig.records.isOpen(keeper);
    const wanted = state === 'running' && timeout_seconds > 0;
    if (wanted && !open) one.blame(lost(`nobody keeps its timeout: ${keeper} is not open`));
    if (!wanted && open) one.blame(leaked(`${keeper} is open although it is ${state}`));
  }

  /** A change of the policy is there as a whole or not at all, and the row says the same as the kernel. */
  async #examinePolicy(one: Case, rules: string): Promise<void> {
    const { policy } = await this.rig.api.get<SandboxNetworkDto>(`/v1/sandboxes/${one.subject}/network`);
    const [wanted, said, done] = [!one.turnedBack, policy.allow.length > 0, rules.includes(LET_OUT)];
    if (said !== wanted) one.blame(lost(`its row has the ${said ? 'new' : 'old'} network policy`));
    if (done !== wanted) one.blame(lost(`its namespace has the ${done ? 'new' : 'old'} network policy`));
  }

  async #examineGuest(one: Case, state: string): Promise<void> {
    const { api, probe } = this.rig;
    if (state === 'paused') await this.rig.demand(verbRequest('resume', one.subject, `${one.key}-look`), 200);
    else if (state !== 'running') return;
    // Of one that was just made nothing is known yet, and of one that was booted anew nothing any more: both must be of use.
    const known = one.story.ruined === true ? undefined : one.guest;
    if (one.guest === undefined) await probe.plant(api, one.subject, one.key);
    if (known !== undefined) one.blame(...forgotten(known, await probe.look(api, one.subject)).map(lost));
    await probe
      .checkDisk(api, one.subject, one.key)
      .catch((error: unknown) => one.blame(lost(`its disk is not as it was: ${(error as Error).message}`)));
  }

  async #examineBuild(one: Case, view: HostView, rows: readonly OperationRow[]): Promise<void> {
    const [build] = ownOperations(one, rows);
    const state = build?.state ?? 'absent';
    await this.#examineOperation(one, state, rows);
    one.blame(...judgePossessions(state, await view.of(one.subject)));
    one.blame(...(await this.rig.doubled(one.subject)).map(duplicated));
    if (state === 'ready') await this.#useTemplate(one);
  }

  /** A template is what it is for: a guest that comes out of it and answers. */
  async #useTemplate(one: Case): Promise<void> {
    const key = `${one.key}-use`;
    const id = sandboxOf(key);
    await this.rig.demand(createRequest(key, { ...this.rig.guest, template: `chaos-${one.key}`, cold: false }), 201);
    const { api, probe } = this.rig;
    await probe
      .plant(api, id, key)
      .then(() => probe.look(api, id))
      .catch((error: unknown) => one.blame(lost((error as Error).message)));
    await this.rig
      .demand(destroyRequest(id, `${key}-last`), 200)
      .catch((error: unknown) => one.blame(stuck((error as Error).message)));
  }
}
