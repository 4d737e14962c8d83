import type { DiskBase, VmSpec } from '../../activities/host/ports.js';

/** What a guest has in memory; a save keeps it and a restore brings it back. */
export interface FakeMemory {
  /** Differs for every cold boot; restored ones keep it. */
  bootId: string;
  /** Whatever a test makes the guest remember. */
  notes: string[];
  quiesced: boolean;
}

export interface FakeVm {
  status: 'running' | 'frozen';
  spec: VmSpec;
  memory: FakeMemory;
}

export interface FakeDisk {
  base: DiskBase;
  content: string[];
  /** Content to which `rollback` returns. */
  point?: string[];
}
