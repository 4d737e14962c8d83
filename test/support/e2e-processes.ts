import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { identityOf, type ProcessIdentity } from '../../cli/platform/process-identity.js';
import { eventually } from './e2e-eventually.js';
import type { Tier } from './e2e-tier.js';

export type ProcessName = 'api' | 'control-worker' | 'host-worker' | 'temporal';

/** As whoever keeps the platform running has recorded it. */
export async function processOf(tier: Tier, name: ProcessName): Promise<ProcessIdentity> {
  const recorded = JSON.parse(await readFile(join(tier.home, 'run/processes.json'), 'utf8')) as {
    name: string;
    identity?: ProcessIdentity;
  }[];
  const identity = recorded.find((entry) => entry.name === name)?.identity;
  if (!identity) throw new Error(`no ${name} is recorded`);
  return identity;
}

/** Returns when another process has taken the place of `before`. */
export async function succeeded(tier: Tier, name: ProcessName, before: ProcessIdentity): Promise<void> {
  await eventually(`another ${name} runs`, async () => {
    const { pid, startTime } = await processOf(tier, name);
    return startTime !== before.startTime && identityOf(pid) ? pid : undefined;
  });
}

/** Of a sandbox's virtual machine, which is nobody's child. */
export async function machineOf(tier: Tier, sandboxId: string): Promise<ProcessIdentity> {
  const record = JSON.parse(await readFile(join(tier.runDirectory, 'vms', sandboxId, 'vm.json'), 'utf8')) as {
    process: ProcessIdentity;
  };
  return record.process;
}
