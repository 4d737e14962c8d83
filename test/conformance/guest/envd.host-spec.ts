import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { EnvdGuest } from '../../../host-worker/drivers/envd/envd-guest.driver.js';
import { describeForeignServices } from './foreign.conformance.js';
import { describeGuestConformance } from './guest.conformance.js';
import type { GuestHarness } from './guest-harness.js';
import { compileAgent, NamespaceAgent } from './namespace-agent.js';
import { describeGuestShellConformance } from './shell.conformance.js';

// Every quiesce syncs the disks of this machine, whatever else it is doing.
jest.setTimeout(120_000);

async function agentsIn(subnet: number): Promise<GuestHarness> {
  const directory = await mkdtemp(join(tmpdir(), 'guest-agent-'));
  const binary = await compileAgent(directory);
  const one = await NamespaceAgent.open(`gst${process.pid}x${subnet}`, binary, subnet);
  const other = await NamespaceAgent.open(`gst${process.pid}x${subnet + 1}`, binary, subnet + 1);
  return {
    guest: new EnvdGuest(),
    restarted: () => new EnvdGuest(),
    one,
    other,
    commands: {
      silent: 'true',
      prints: { command: 'echo out; echo more', output: /^out\nmore\n$/ },
      fails: { command: 'echo why >&2; exit 3', exitCode: 3, output: /^why\n$/ },
    },
    dispose: async () => {
      await one.dispose();
      await other.dispose();
      await rm(directory, { recursive: true });
    },
  };
}

describeGuestConformance('envd', () => agentsIn(10));
describeGuestShellConformance('envd', () => agentsIn(20));
describeForeignServices('envd', (port) => new EnvdGuest(port));
