/** What is sent and read of Cloud Hypervisor's API; it knows more. A test compares these types with a VM that runs. */

export interface DiskConfig {
  path: string;
  image_type: 'Raw' | 'Qcow2';
  /** That a qcow2 file may name another one below it. */
  backing_files: boolean;
}

export interface NetConfig {
  tap: string;
  mac: string;
}

export interface LandlockRule {
  path: string;
  access: 'r' | 'rw';
}

/** `Tty` is the standard output of the process, when that is no terminal. */
export interface ConsoleConfig {
  mode: 'Off' | 'Tty';
}

/** Body of `vm.create`, and `config.json` of what is saved. */
export interface CreateVm {
  /** `nested`: whether guests can run guests of their own. */
  cpus: { boot_vcpus: number; max_vcpus: number; nested: boolean };
  /** `shared`: in a memory file without a name, in which unused pages are holes, so that they are not saved. */
  memory: { size: number; shared: true };
  payload: { kernel: string; initramfs: string; cmdline: string };
  disks: DiskConfig[];
  net: NetConfig[];
  rng: { src: string };
  balloon: { size: number; deflate_on_oom: boolean; free_page_reporting: boolean };
  serial: ConsoleConfig;
  console: ConsoleConfig;
  landlock_enable: boolean;
  landlock_rules: LandlockRule[];
}

export interface RestoreVm {
  source_url: string;
  memory_restore_mode: 'Copy' | 'OnDemand';
  /** Whether the virtual CPUs run at once. */
  resume: boolean;
}

export interface VmmPing {
  version: string;
  build_version: string;
  pid: number;
  features: string[];
}

export interface VmInfo {
  config: CreateVm;
  state: 'Created' | 'Running' | 'Shutdown' | 'Paused' | 'BreakPoint';
  /** Of the guest, less what its balloon holds. */
  memory_actual_size: number;
}

/** By device and name. */
export type VmCounters = Record<string, Record<string, number>>;
