import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../cli/platform/command.js';
import { removeHostRules } from '../../cli/platform/host-rules.js';
import { endProcess, identityOf } from '../../cli/platform/process-identity.js';
import { takenSlots } from '../support/e2e-neighbours.js';
import type { ChaosPlatform } from './chaos-platform.js';

const SLOTS = '/run/torpor/slots';

/** After a run that went wrong: takes from the machine what its platform, which has been stopped, left there. */
export async function sweepMachine(platform: ChaosPlatform): Promise<void> {
  const host = { hostDirectory: platform.home.hostDirectory, runDirectory: platform.runDirectory };
  const view = await platform.machine.view();
  for (const pid of view.allVmms()) {
    const identity = identityOf(pid);
    if (identity !== undefined) await endProcess(identity, 1_000, 'SIGKILL');
  }
  for (const slot of await takenSlots(host)) {
    const file = join(SLOTS, slot);
    const { id } = JSON.parse(await readFile(file, 'utf8')) as { id: string };
    await runCommand(['ip', 'netns', 'delete', `sbx-${id}`]).catch(() => undefined);
    await rm(file, { force: true });
  }
  await removeHostRules(host.hostDirectory);
}
