import { LabRig } from '../lab/lab-rig.js';
import type { Lab } from '../lab/lab.js';
import type { MachineSnapshot } from '../support/machine-facts.js';
import { HostView, type HostFacts, type Inside } from './checks/host-view.js';
import { type EyeQuestion, type PackedSnapshot, unpacked } from './eye-protocol.js';
import { directoriesOf, type HostMachine, type Places } from './host-machine.js';

/** In the lab, whose disk is its own. */
const PLACES: Places = { hostDirectory: '/var/lib/torpor-chaos/host', runDirectory: '/run/torpor-chaos' };
/** As an installation leaves a host: memory can be restored on demand, and landlock is offered where the kernel has it. */
const PREPARATION = `if [ -e /dev/userfaultfd ]; then chgrp kvm /dev/userfaultfd; chmod 660 /dev/userfaultfd; fi
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security`;
const EYE_PORT = 8_190;
const DATA_PLANE_PORT = 8_191;
const LOOK_MS = 120_000;
/** For the guests of a round and the machine's own part. */
const MEMORY_MB = 6_144;
/** With two of them, QEMU's emulation of SVM loses its host's stack now and then when several guests run at once. */
const CPUS = 1;

export interface LabMachineOptions {
  /** Where the lab's disks and logs are kept. */
  directory: string;
  /** The host's. */
  name?: string;
  memoryMb?: number;
}

/** A stand-in for a production host, for the host worker of a platform whose other processes run here. */
export class LabHostMachine implements HostMachine {
  readonly places = PLACES;
  #eye = '';
  #eyeEnded: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly lab: Lab,
    /** Where the API reaches the worker's data plane, and what that listens on. */
    readonly dataPlane: { url: string; listen: string },
    readonly memoryMb: number,
  ) {}

  static async start({
    directory,
    name = 'torpor-lab',
    memoryMb = MEMORY_MB,
  }: LabMachineOptions): Promise<LabHostMachine> {
    const rig = await LabRig.open({ directory });
    const lab = await rig.start(name, { memoryMb, cpus: CPUS });
    try {
      const url = `http://127.0.0.1:${await lab.forward(DATA_PLANE_PORT)}`;
      const machine = new LabHostMachine(lab, { url, listen: `0.0.0.0:${DATA_PLANE_PORT}` }, memoryMb);
      await machine.open();
      return machine;
    } catch (error) {
      await lab.kill();
      throw error;
    }
  }

  /** After each boot of the lab. */
  async open(): Promise<void> {
    await this.lab.run(PREPARATION, { check: true });
    this.#eye = `http://127.0.0.1:${await this.lab.forward(EYE_PORT)}`;
    let said = '';
    const looking = new Promise<void>((resolve) => {
      this.#eyeEnded = this.lab.run(['node', 'test/chaos/lab-eye-process.js', String(EYE_PORT)], {
        onOutput: (bytes) => {
          said += Buffer.from(bytes).toString();
          if (said.includes('the eye looks')) resolve();
        },
      });
    });
    const ended = this.#eyeEnded.then(() => Promise.reject(new Error(`the eye in the lab ended: ${said}`)));
    ended.catch(() => undefined);
    await Promise.race([looking, ended]);
  }

  async view(): Promise<HostView> {
    const facts = await this.#ask<HostFacts>({ look: 'host', directories: directoriesOf(PLACES) });
    return new HostView(facts, (namespace) => this.#ask<Inside>({ look: 'inside', namespace }));
  }

  async snapshot(marks: readonly string[]): Promise<MachineSnapshot> {
    const directories = Object.values(PLACES);
    return unpacked(await this.#ask<PackedSnapshot>({ look: 'machine', directories, marks }));
  }

  slots(): Promise<string[]> {
    return this.#ask<string[]>({ look: 'slots', host: PLACES });
  }

  async kill(pid: number): Promise<void> {
    await this.#ask({ look: 'kill', pid });
  }

  async #ask<T>(question: EyeQuestion): Promise<T> {
    const signal = AbortSignal.timeout(LOOK_MS);
    const answer = await fetch(this.#eye, { method: 'POST', body: JSON.stringify(question), signal });
    if (!answer.ok) throw new Error(`looking at the lab (${question.look}) failed: ${await answer.text()}`);
    return (await answer.json()) as T;
  }
}
