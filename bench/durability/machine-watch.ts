import { createHash } from 'node:crypto';
import { takenSlots } from '../../test/support/e2e-neighbours.js';
import { settledDifference, snapshotMachine, type MachineSnapshot } from '../../test/support/leak-check.js';
import { readLedger } from '../../test/simulator/vmm-ledger.js';
import type { Orchestrator } from './orchestrator.js';

/** The machine before and after the bench. Of what differs, only what bears our names is ours: others work here too. */
export class MachineWatch {
  readonly #names = new Set<string>();
  readonly #hosts: Orchestrator['host'][] = [];

  private constructor(private readonly before: MachineSnapshot) {}

  static async open(): Promise<MachineWatch> {
    return new MachineWatch(await snapshotMachine({ directories: [] }));
  }

  /** Before an orchestrator is closed, which removes its ledger: what is on the machine has its sandboxes' ids in its name. */
  async remember(host: Orchestrator['host']): Promise<void> {
    const { data, run, ledger } = host;
    const tag = sha256(data).slice(0, 8);
    const ids = (await readLedger(ledger)).map(({ id }) => id);
    for (const name of [data, run, `torpor_${tag}`, `tp${sha256(tag).slice(0, 6)}n`, ...ids]) this.#names.add(name);
    this.#hosts.push(host);
  }

  /** One line for each thing that is still there, once the machine has settled. */
  async left(): Promise<string[]> {
    const foreign = new RegExp(`^(?!.*(${[...this.#names].join('|')}))`);
    const { left } = await settledDifference(this.before, {
      directories: this.#hosts.flatMap(({ data, run }) => [data, run]),
      ignore: [foreign],
      also: { 'address slot': () => this.#slots() },
    });
    return left.map(({ kind, what }) => `${kind} ${what}`);
  }

  async #slots(): Promise<string[]> {
    const taken = this.#hosts.map(async ({ data, run }) => {
      const slots = await takenSlots({ hostDirectory: data, runDirectory: run });
      return slots.map((slot) => `${slot} of ${data}`);
    });
    return (await Promise.all(taken)).flat();
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
