import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities } from './contract.js';
import { withMemory } from './memory-lost.js';
import type { GuestConfig, HostPorts } from './ports.js';
import type { StepRunner } from './step-runner.js';

type GuestSteps = Pick<HostActivities, 'initGuest' | 'quiesceGuest' | 'unquiesceGuest' | 'runSetupCommand'>;

/** What is kept of the output of one set-up command. */
const MAX_SETUP_OUTPUT_BYTES = 64 * 1024;

/** Enough of the console to show a kernel panic's last words. */
const CONSOLE_TAIL_BYTES = 512;

/** Between two questions to a control plane that is away. */
const ASK_AGAIN_MS = 500;

export function guestSteps(runner: StepRunner): GuestSteps {
  const { ports, connections } = runner;
  return {
    initGuest: runner.step({
      name: 'initGuest',
      lane: 'all',
      work: async ({ sandboxId }, signal) => {
        const address = await addressOf(ports, sandboxId);
        const [config] = await Promise.all([
          guestConfig(runner, sandboxId, signal),
          waitReady(runner, sandboxId, address, signal),
        ]);
        await ports.guest.init(address, sandboxId, config, signal);
        connections.admit(sandboxId);
      },
    }),

    quiesceGuest: runner.step({
      name: 'quiesceGuest',
      lane: 'all',
      work: ({ sandboxId }, signal) =>
        withMemory(ports, sandboxId, async () => {
          const address = await addressOf(ports, sandboxId);
          // First the connections: what they still do in the guest would undo the quiescing.
          await connections.hold(sandboxId, signal);
          await ports.guest.quiesce(address, signal);
        }),
    }),

    unquiesceGuest: runner.step({
      name: 'unquiesceGuest',
      lane: 'all',
      undoes: ['quiesceGuest'],
      work: ({ sandboxId }, signal) =>
        withMemory(ports, sandboxId, async () => {
          await ports.guest.unquiesce(await addressOf(ports, sandboxId), signal);
          connections.admit(sandboxId);
        }),
    }),

    runSetupCommand: runner.step({
      name: 'runSetupCommand',
      lane: 'all',
      discriminator: ({ index }) => String(index),
      work: ({ sandboxId, command }, signal) =>
        withMemory(ports, sandboxId, async () => {
          const address = await addressOf(ports, sandboxId);
          const { accessToken } = await guestConfig(runner, sandboxId, signal);
          return ports.guest.run(address, accessToken, command, MAX_SETUP_OUTPUT_BYTES, signal);
        }),
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

/** An API that is restarted must not end an operation, so it is waited for as long as a guest would be. */
async function guestConfig(runner: StepRunner, sandboxId: string, signal: AbortSignal): Promise<GuestConfig> {
  const deadline = performance.now() + runner.guestReadyMs;
  for (;;) {
    try {
      return await runner.ports.controlPlane.guestConfig(sandboxId, signal);
    } catch (err) {
      const away = err instanceof DomainError && err.code === 'control_plane_unavailable';
      if (!away || performance.now() > deadline) throw err;
      await delay(ASK_AGAIN_MS, undefined, { signal });
    }
  }
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
