import { setTimeout as delay } from 'node:timers/promises';
import { neighbours } from '../../support/e2e-neighbours.js';
import { diffMachine, type MachineSnapshot } from '../../support/leak-check.js';
import { type ChaosPlatform, paceOf } from '../chaos-platform.js';
import type { Records } from '../records.js';

/**
 * A keeper's wake-up may have been handed to the control worker that was killed. Temporal gives it to another one when that worker's
 * sticky queue has been silent for 10 s (the SDK's default); a keeper that is open for longer than that is a leak.
 */
const SETTLE_MS = 20_000;

const LOOK_AGAIN_MS = 100;

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
    watch.#before = await watch.#look();
    return watch;
  }

  /** One line per thing that should not be there, once the machine has settled. */
  async find(): Promise<string[]> {
    const deadline = performance.now() + SETTLE_MS * paceOf(this.platform.kind);
    for (;;) {
      const { report } = diffMachine(this.#before, await this.#look());
      if (report === '') return [];
      if (performance.now() > deadline) return report.split('\n');
      await delay(LOOK_AGAIN_MS);
    }
  }

  /** What there is of the machine's own, less what may be there, and of what only we can see. */
  async #look(): Promise<MachineSnapshot> {
    const [machine, ignore, also] = await Promise.all([
      this.platform.machine.snapshot([this.platform.home.directory]),
      this.#ignored(),
      this.#also(),
    ]);
    const all = [
      ...machine,
      ...also.map(([kind, names]) => [kind, new Map(names.map((name) => [name, name]))] as const),
    ];
    const kept = all.map(([kind, things]) => {
      const wanted = [...things].filter(([, what]) => !ignore.some((pattern) => pattern.test(`${kind} ${what}`)));
      return [kind, new Map(wanted)] as const;
    });
    return new Map(kept);
  }

  async #ignored(): Promise<RegExp[]> {
    const host = this.platform.machine.places;
    const { hostDirectory, runDirectory } = host;
    const ids = await this.#column('SELECT id FROM sandboxes UNION SELECT id FROM template_builds');
    const published = await this.#column(`SELECT id FROM template_builds WHERE state = 'ready'`);
    return [
      ...neighbours(host, ids),
      // The platform's own: others than at first, because they are killed. Postgres has one for each connection.
      new RegExp(`^process (${this.platform.pids().join('|')}) `),
      /^process .*: postgres: /,
      new RegExp(`^process (?!.*(${this.platform.home.directory}|${hostDirectory})).*: (qemu-img|qemu-nbd|envd) `),
      // Journals outlive their sandboxes for a day, so that steps that come late are refused.
      new RegExp(`^file ${hostDirectory}/journal/`),
      ...published.map((id) => new RegExp(`^file ${hostDirectory}/templates/${id}(/|$)`)),
      // Made for the first sandbox and kept.
      new RegExp(`^file (${hostDirectory}/(sandboxes|templates)|${runDirectory}/vms)$`),
      new RegExp(`^file ${runDirectory}/worker\\.pid$|^file ${hostDirectory}/worker\\.pid$`),
      /^mount .* on \/run\/netns$/,
    ];
  }

  async #also(): Promise<[kind: string, names: string[]][]> {
    return [
      ['address slot', await this.platform.machine.slots()],
      ['open workflow', await this.#openWorkflows()],
      ['sandbox that is not stopped', await this.#column(`SELECT id FROM sandboxes WHERE state <> 'stopped'`)],
      ['open operation', await this.#column(`SELECT id FROM operations WHERE state = 'running'`)],
      ['running build', await this.#column(`SELECT id FROM template_builds WHERE state = 'running'`)],
      ['secret', await this.#column('SELECT id FROM sandbox_secrets')],
    ];
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
