import { type MachineSnapshot, readMachine } from '../support/machine-facts.js';
import { takenSlots } from '../support/e2e-neighbours.js';
import { type HostDirectories, HostView } from './checks/host-view.js';

/** Where a host worker keeps what it has. */
export interface Places {
  hostDirectory: string;
  runDirectory: string;
}

/** The machine of the host worker and its VMs, as those who judge it look at it. */
export interface HostMachine {
  readonly places: Places;
  view(): Promise<HostView>;
  snapshot(marks: readonly string[]): Promise<MachineSnapshot>;
  /** Addresses that its host worker has taken. */
  slots(): Promise<string[]>;
  /** SIGKILL to a VMM. */
  kill(pid: number): Promise<void>;
}

export function directoriesOf({ hostDirectory, runDirectory }: Places): HostDirectories {
  return { data: hostDirectory, run: runDirectory };
}

/** This machine. */
export class OwnMachine implements HostMachine {
  constructor(readonly places: Places) {}

  view(): Promise<HostView> {
    return HostView.read(directoriesOf(this.places));
  }

  snapshot(marks: readonly string[]): Promise<MachineSnapshot> {
    return readMachine({ directories: Object.values(this.places), marks });
  }

  slots(): Promise<string[]> {
    return takenSlots(this.places);
  }

  async kill(pid: number): Promise<void> {
    process.kill(pid, 'SIGKILL');
  }
}
