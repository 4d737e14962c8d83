import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities } from './contract.js';
import type { HostPorts } from './ports.js';
import type { StepRunner } from './step-runner.js';

type GuestSteps = Pick<HostActivities, 'initGuest' | 'quiesceGuest' | 'unquiesceGuest' | 'runSetupCommand'>;

/** What is kept of the output of one set-up command. */
const MAX_SETUP_OUTPUT_BYTES = 64 * 1024;

/** Enough of the console to show a kernel panic's last words. */
const CONSOLE_TAIL_BYTES = 512;

export function guestSteps(runner: StepRunner): GuestSteps {
  const { ports, connections } = runner;
  return {
    initGuest: runner.step({
      name: 'initGuest',
      lane: 'all',
      work: async ({ sandboxId }, signal) => {
        const address = await addressOf(ports, sandboxId);
        const [config] = await Promise.all([
          ports.controlPlane.guestConfig(sandboxId, signal),
          waitReady(runner, sandboxId, address, signal),
        ]);
        await ports.guest.init(address, sandboxId, config, signal);
        connections.admit(sandboxId);
      },
    }),

    quiesceGuest: runner.step({
      name: 'quiesceGuest',
      lane: 'all',
      work: async ({ sandboxId }, signal) => {
        const address = await addressOf(ports, sandboxId);
        // First the connections: what they still do in the guest would undo the quiescing.
        await connections.hold(sandboxId, signal);
        await ports.guest.quiesce(address, signal);
      },
    }),

    unquiesceGuest: runner.step({
      name: 'unquiesceGuest',
      lane: 'all',
      undoes: ['quiesceGuest'],
      work: async ({ sandboxId }, signal) => {
        await ports.guest.unquiesce(await addressOf(ports, sandboxId), signal);
        connections.admit(sandboxId);
      },
    }),

    runSetupCommand: runner.step({
      name: 'runSetupCommand',
      lane: 'all',
      discriminator: ({ index }) => String(index),
      work: async ({ sandboxId, command }, signal) => {
        const address = await addressOf(ports, sandboxId);
        const { accessToken } = await ports.controlPlane.guestConfig(sandboxId, signal);
        return ports.guest.run(address, accessToken, command, MAX_SETUP_OUTPUT_BYTES, signal);
      },
    }),
  };
}

async function addressOf(ports: HostPorts, sandboxId: string): Promise<string> {
  const network = await ports.network.find(sandboxId);
  if (network) return network.hostAddress;
  throw new DomainError(
    'guest_unavailable',
    `the guest of ${sandboxId} cannot be reached: it has no network on this host`,
    { sandboxId },
  );
}

/** A guest that does not answer usually said why on its console, so the failure carries its end. */
async function waitReady(runner: StepRunner, sandboxId: string, address: string, signal: AbortSignal): Promise<void> {
  const { ports } = runner;
  try {
    await ports.guest.waitReady(address, runner.guestReadyMs, signal);
  } catch (err) {
    if (signal.aborted || !(err instanceof DomainError)) throw err;
    const [status, console] = await Promise.all([
      ports.hypervisor.status(sandboxId),
      ports.hypervisor.consoleLog(sandboxId, CONSOLE_TAIL_BYTES).catch(() => ''),
    ]);
    const lastLine = console.trimEnd().split('\n').at(-1)?.trim() || 'nothing';
    throw new DomainError(
      err.code,
      `${err.message}; its VM is ${status}, the console ends with: ${lastLine}`,
      err.details,
      {
        cause: err,
      },
    );
  }
}
