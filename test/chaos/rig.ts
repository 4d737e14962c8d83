import { readLedger, doubledVmms } from '../simulator/vmm-ledger.js';
import { Api } from '../support/e2e-api.js';
import { insist, type Answered, type Request } from './caller.js';
import { ChaosPlatform, type PlatformKind } from './chaos-platform.js';
import { type GuestProbe, simulatedGuest } from './checks/guest-memory.js';
import { HostView } from './checks/host-view.js';
import { LeakWatch } from './checks/leaks.js';
import { realGuest } from './checks/real-guest.js';
import { Records } from './records.js';
import { REAL_KIND, SIMULATED_KIND, type GuestKind } from './stories.js';
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
      if (kind.qemu) await platform.api.build({ template: REAL_KIND.template, ...sizeOf(REAL_KIND) });
      const leaks = await LeakWatch.open(platform, records);
      return new Rig(platform, records, kind.qemu ? realGuest : simulatedGuest, leaks, notes);
    } catch (error) {
      await platform.stop();
      throw error;
    }
  }

  get guest(): GuestKind {
    return this.platform.kind.qemu ? REAL_KIND : SIMULATED_KIND;
  }

  get api(): Api {
    return this.platform.api;
  }

  /** From here on what is there counts as having been there. */
  async forgetLeaks(): Promise<void> {
    this.leaks = await LeakWatch.open(this.platform, this.records);
  }

  ask(request: Request, until = AbortSignal.timeout(CALLER_MS)): Promise<Answered> {
    return insist(this.api, request, until);
  }

  /** Like `ask`, where any other answer than this one is an error. */
  async demand(request: Request, status: number): Promise<unknown> {
    const answer = await this.ask(request);
    if (answer.status === status) return answer.body;
    throw new Error(`${request.method} ${request.path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  hostView(): Promise<HostView> {
    const { home, runDirectory } = this.platform;
    return HostView.read({ data: home.hostDirectory, run: runDirectory });
  }

  /** Every time that two VMMs of one id lived at once, or one tried to. */
  async doubled(id: string): Promise<string[]> {
    if (this.platform.kind.qemu) return [];
    const entries = await readLedger(this.platform.ledger);
    return doubledVmms(entries.filter((entry) => entry.id === id));
  }

  /** Leaves the machine as it was. Logs and evidence stay if they are wanted. */
  async close(keepFiles: boolean): Promise<void> {
    await this.records.close();
    await this.platform.stop();
    await sweepMachine(this.platform);
    if (keepFiles) process.stderr.write(`kept: ${this.platform.home.directory}\n`);
    else await this.platform.removeFiles();
  }
}

function sizeOf({ vcpus, memory_mb }: GuestKind): { vcpus: number; memory_mb: number } {
  return { vcpus, memory_mb };
}
