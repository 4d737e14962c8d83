import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Exec } from '../../exec.js';
import { NetnsNetwork } from './netns-network.driver.js';

/** Documentation addresses: nothing on a real network has them. */
const CIDR = '198.51.100.0/24';

/** Whether sandbox networks can be made on this machine: one is made, with everything it takes, and removed. */
export async function probeNetns(exec: Exec, vmUser: string): Promise<{ usable: boolean; reason: string }> {
  const slotsDir = await mkdtemp(join(tmpdir(), 'torpor-netns-'));
  const tag = `probe_${randomBytes(4).toString('hex')}`;
  const network = new NetnsNetwork({ cidr: CIDR, hostTag: tag, vmUser, exec, slotsDir });
  try {
    await network.ensureHostTable();
    await network.ensure(tag, { egress: true });
    return { usable: true, reason: 'a namespace with veth, tap and nftables rules was made and removed' };
  } catch (err) {
    return { usable: false, reason: err instanceof Error ? err.message : String(err) };
  } finally {
    await cleanUp(network, tag, slotsDir);
  }
}

async function cleanUp(network: NetnsNetwork, id: string, slotsDir: string): Promise<void> {
  try {
    await network.remove(id);
    await network.removeHostTableIfUnused();
  } catch {
    // Where nothing could be made there is nothing to remove, and the reason is already known.
  }
  await rm(slotsDir, { recursive: true, force: true });
}
