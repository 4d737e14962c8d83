import { join } from 'node:path';
import type { Exec } from '../../exec.js';
import { SandboxFolders } from '../../sandbox-folder.js';
import type { GuestBoot } from '../qemu/machine.js';
import { ConsoleLogs } from '../vmm/console-logs.js';
import { VmCgroup } from '../vmm/vm-cgroup.js';
import { VmFolder } from '../vmm/vm-folder.js';
import type { VmUser } from '../vmm/vm-user.js';
import { ApiClient } from './api-client.js';
import { EventLog } from './event-log.js';
import type { Offer } from './host-support.js';
import { Workspace } from './workspace.js';

/** Longer than any snapshot, behind which a call may have to wait in the VMM. */
export const BEHIND_SNAPSHOT_MS = 11 * 60_000;

export interface CloudHypervisorOptions {
  exec: Exec;
  dataDir: string;
  runDir: string;
  boot: GuestBoot;
  /** Unprivileged user that VMs run as. */
  vmUser: string;
  /** Control group that those of VMs are made in. */
  vmCgroup?: string;
  /** A name on the path or an absolute path; `cloud-hypervisor` when absent. */
  binary?: string | undefined;
  /** Saved memory is read whole before the virtual CPUs run, even where it could be loaded on demand. */
  eager?: boolean;
  /** Told what a VM has to do without, and what it has to wait for. */
  warn?: (fields: Record<string, unknown>, message: string) => void;
}

/** What was found out once about this machine. */
export interface Found {
  user: VmUser;
  onDemand: Offer;
  landlock: Offer;
}

/** Where everything of one VM is. */
export class Machine {
  readonly folders: SandboxFolders;
  readonly consoles: ConsoleLogs;

  constructor(
    readonly options: CloudHypervisorOptions,
    readonly found: Found,
  ) {
    this.folders = new SandboxFolders(options.dataDir);
    this.consoles = new ConsoleLogs(this.folders);
  }

  get binary(): string {
    return this.options.binary ?? 'cloud-hypervisor';
  }

  folder(id: string): VmFolder {
    return new VmFolder(this.options.runDir, id, 'cloud-hypervisor');
  }

  api(id: string): ApiClient {
    return new ApiClient(this.folder(id).control);
  }

  events(id: string): EventLog {
    return new EventLog(this.folder(id).events);
  }

  workspace(id: string): Workspace {
    return new Workspace(join(this.folders.path(id), 'vm'), this.found.user, this.options.exec);
  }

  cgroup(id: string): VmCgroup {
    return new VmCgroup(id, this.options.vmCgroup);
  }

  warn(fields: Record<string, unknown>, message: string): void {
    this.options.warn?.(fields, message);
  }
}
