import { readLedger, doubledVmms } from '../simulator/vmm-ledger.js';
import type { HostDto } from '../../api/host/host.dto.js';
import { Api, type Page } from '../support/e2e-api.js';
import { eventually } from '../support/e2e-eventually.js';
import { insist, type Answered, type Request } from './caller.js';
import { ChaosPlatform, hasRealVms, paceOf, type PlatformKind } from './chaos-platform.js';
import { type GuestProbe, simulatedGuest } from './checks/guest-memory.js';
import type { HostView } from './checks/host-view.js';
import { LeakWatch } from './checks/leaks.js';
import { realGuest } from './checks/real-guest.js';
import { Records } from './records.js';
import { LAB_KIND, REAL_KIND, SIMULATED_KIND, type GuestKind } from './stories.js';
import { sweepMachine } from './sweep.js';

/** How long a caller goes on asking; far above what any recovery takes. */
const CALLER_MS = 150_000;

/** A platform to be tormented, with all that is needed to look at it. */
export class Rig {
  /** What no case asked for, such as a process that ended by itself; shown at the end. */
  readonly notes: string[];
  leaks: LeakWatch;

  private constructor(
    readonly platform: ChaosPlatform,
    readonly records: Records,
    readonly probe: GuestProbe,
    leaks: LeakWatch,
    notes: string[],
  ) {
    this.leaks = leaks;
    this.notes = notes;
  }

  static async open(kind: PlatformKind): Promise<Rig> {
    const notes: string[] = [];
    const platform = await ChaosPlatform.start(kind, (text) => notes.push(text));
    try {
      const records = await Records.open(platform.addresses.databaseUrl, platform.addresses.temporal);
      if (hasRealVms(kind)) await buildTemplate(platform);
      const leaks = await LeakWatch.open(platform, records);
      return new Rig(platform, records, hasRealVms(kind) ? realGuest : simulatedGuest, leaks, notes);
    } catch (error) {
      await platform.stop();
      throw error;
    }
  }

  get guest(): GuestKind {
    return guestOf(this.platform.kind);
  }

  get api(): Api {
    return this.platform.api;
  }

  /** From here on what is there counts as having been there. */
  async forgetLeaks(): Promise<void> {
    this.leaks = await LeakWatch.open(this.platform, this.records);
  }

  /** By how much all patience is longer than with simulated machines. */
  get pace(): number {
    return paceOf(this.platform.kind);
  }

  ask(request: Request, until = AbortSignal.timeout(CALLER_MS * this.pace)): Promise<Answered> {
    return insist(this.api, request, until);
  }

  /** Like `ask`, where any other answer than this one is an error. */
  async demand(request: Request, status: number): Promise<unknown> {
    const answer = await this.ask(request);
    if (answer.status === status) return answer.body;
    throw new Error(`${request.method} ${request.path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  hostView(): Promise<HostView> {
    return this.platform.machine.view();
  }

  /** Every time that two VMMs of one id lived at once, or one tried to. */
  async doubled(id: string): Promise<string[]> {
    if (hasRealVms(this.platform.kind)) return [];
    const entries = await readLedger(this.platform.ledger);
    return doubledVmms(entries.filter((entry) => entry.id === id));
  }

  /** Leaves the machine as it was. Logs and evidence stay if they are wanted. */
  async close(keepFiles: boolean): Promise<void> {
    await this.records.close();
    await this.platform.stop();
    // A lab has gone with everything that was on it.
    if (this.platform.kind.lab === undefined) await sweepMachine(this.platform);
    if (keepFiles) process.stderr.write(`kept: ${this.platform.home.directory}\n`);
    else await this.platform.removeFiles();
  }
}

/** What guests are made from. A request is sent again when an emulated machine makes its caller wait for too long. */
async function buildTemplate(platform: ChaosPlatform): Promise<void> {
  const guest = guestOf(platform.kind);
  const body = { template: guest.template, image: 'minimal', ...sizeOf(guest) };
  const request = { method: 'POST', path: '/v1/templates/builds?wait=true', body, key: 'template-of-all' };
  // A worker serves its queue before its first sign of life has arrived.
  await eventually('a host is online', async () => {
    const { items } = await platform.api.get<Page<HostDto>>('/v1/hosts');
    return items.find(({ status }) => status === 'online');
  });
  const answer = await insist(platform.api, request, AbortSignal.timeout(CALLER_MS * paceOf(platform.kind)));
  if (answer.status !== 201) throw new Error(`the template was not built: ${JSON.stringify(answer)}`);
}

function guestOf({ qemu, lab }: PlatformKind): GuestKind {
  if (lab !== undefined) return LAB_KIND;
  return qemu ? REAL_KIND : SIMULATED_KIND;
}

function sizeOf({ vcpus, memory_mb }: GuestKind): { vcpus: number; memory_mb: number } {
  return { vcpus, memory_mb };
}
