import { neighbours, takenSlots } from '../../support/e2e-neighbours.js';
import {
  settledDifference,
  snapshotMachine,
  type MachineOptions,
  type MachineSnapshot,
} from '../../support/leak-check.js';
import type { ChaosPlatform } from '../chaos-platform.js';
import type { Records } from '../records.js';

/**
 * A keeper's wake-up may have been handed to the control worker that was killed. Temporal gives it to another one when that worker's
 * sticky queue has been silent for 10 s (the SDK's default); a keeper that is open for longer than that is a leak.
 */
const SETTLE_MS = 20_000;

/** Whatever the platform has on the machine, in Temporal and in the database beyond what it had when this was opened. */
export class LeakWatch {
  #before: MachineSnapshot = new Map();

  private constructor(
    private readonly platform: ChaosPlatform,
    private readonly records: Records,
  ) {}

  /** For a platform that runs and has no sandboxes. */
  static async open(platform: ChaosPlatform, records: Records): Promise<LeakWatch> {
    const watch = new LeakWatch(platform, records);
    watch.#before = await snapshotMachine(await watch.#options());
    return watch;
  }

  /** One line per thing that should not be there, once the machine has settled. */
  async find(): Promise<string[]> {
    const { report } = await settledDifference(this.#before, await this.#options(), SETTLE_MS);
    return report === '' ? [] : report.split('\n');
  }

  async #options(): Promise<MachineOptions> {
    const { home, runDirectory } = this.platform;
    const host = { hostDirectory: home.hostDirectory, runDirectory };
    const ids = await this.#column('SELECT id FROM sandboxes UNION SELECT id FROM template_builds');
    const published = await this.#column(`SELECT id FROM template_builds WHERE state = 'ready'`);
    return {
      directories: [home.hostDirectory, runDirectory],
      marks: [home.directory],
      ignore: [
        ...neighbours(host, ids),
        // The platform's own: others than at first, because they are killed. Postgres has one for each connection.
        new RegExp(`^process (${this.platform.pids().join('|')}) `),
        /^process .*: postgres: /,
        new RegExp(`^process (?!.*${home.directory}).*: (qemu-img|qemu-nbd|envd) `),
        // Journals outlive their sandboxes for a day, so that steps that come late are refused.
        new RegExp(`^file ${host.hostDirectory}/journal/`),
        ...published.map((id) => new RegExp(`^file ${host.hostDirectory}/templates/${id}(/|$)`)),
        // Made for the first sandbox and kept.
        new RegExp(`^file (${host.hostDirectory}/(sandboxes|templates)|${runDirectory}/vms)$`),
        new RegExp(`^file ${runDirectory}/worker\\.pid$|^file ${host.hostDirectory}/worker\\.pid$`),
        /^mount .* on \/run\/netns$/,
      ],
      also: {
        'address slot': () => takenSlots(host),
        'open workflow': () => this.#openWorkflows(),
        'sandbox that is not stopped': () => this.#column(`SELECT id FROM sandboxes WHERE state <> 'stopped'`),
        'open operation': () => this.#column(`SELECT id FROM operations WHERE state = 'running'`),
        'running build': () => this.#column(`SELECT id FROM template_builds WHERE state = 'running'`),
        secret: () => this.#column('SELECT id FROM sandbox_secrets'),
      },
    };
  }

  async #column(query: string): Promise<string[]> {
    return (await this.records.query<{ id: string }>(query)).map(({ id }) => id);
  }

  /** What belongs to the platform itself, such as the watch of a host, was open before. */
  async #openWorkflows(): Promise<string[]> {
    const open: string[] = [];
    const runs = this.records.client.workflow.list({ query: 'ExecutionStatus = "Running"' });
    for await (const { type, workflowId } of runs) if (!isPassing(type)) open.push(`${type} ${workflowId}`);
    return open;
  }
}

/** A scheduled run that is open just now ends by itself. */
function isPassing(type: string): boolean {
  return type === 'Reconcile' || type.startsWith('temporal-sys-');
}
