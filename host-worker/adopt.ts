import type { HostPorts } from '../activities/host/ports.js';
import type { StepGate } from '../activities/host/step-gate.js';
import type { AssignedSandbox } from './control-plane.client.js';
import type { FileJournal } from './journal.js';

export interface Adopted {
  running: string[];
  /** Found frozen without any operation that could want that, and running again now. */
  unfrozen: string[];
  /** Still frozen: an operation owns them. */
  frozen: string[];
  /** Run files or processes that are no VM one could go on with: half-started, or ended since. Left to reconciliation. */
  dead: string[];
  /** A process lives that does not answer, or answers as another VM. Left to reconciliation. */
  unconfirmed: string[];
}

interface AdoptLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What adoption and reclaiming work with. */
export interface Caretaker {
  ports: HostPorts;
  journal: FileJournal;
  gate: StepGate;
  /** What the control plane says this host has. Rejects when it cannot be asked. */
  assigned: () => Promise<AssignedSandbox[]>;
  log: AdoptLog;
}

/**
 * Takes over the VMs that live since before this worker started. The drivers find them
 * by themselves, so all there is to do is to wake those that a dead worker left frozen.
 */
export async function adopt({ ports, journal, gate, assigned, log }: Caretaker): Promise<Adopted> {
  const adopted: Adopted = { running: [], unfrozen: [], frozen: [], dead: [], unconfirmed: [] };
  for (const id of await ports.hypervisor.list()) {
    try {
      // Only a process of the recorded start time that answers on its socket, as the VM of this id, has another status.
      const status = await ports.hypervisor.status(id);
      adopted[status === 'absent' ? 'dead' : status].push(id);
    } catch (err) {
      log.warn({ err, sandboxId: id }, 'a VM cannot be adopted; it is left as it is');
      adopted.unconfirmed.push(id);
    }
  }
  if (adopted.frozen.length > 0) {
    // Asked after looking: an operation that froze one of them before is in the answer.
    const idle = new Map((await assigned()).filter(isIdle).map((sandbox) => [sandbox.id, sandbox]));
    for (const id of adopted.frozen) {
      const sandbox = idle.get(id);
      if (!sandbox) continue;
      const woken = await gate
        .exclusive(id, async () => {
          // A newer operation than the answer knows of may have frozen it since.
          if ((journal.find(id)?.epoch ?? 0) > sandbox.epoch) return false;
          await ports.hypervisor.unfreeze(id);
          return true;
        })
        .catch((err: unknown) => {
          log.warn({ err, sandboxId: id }, 'a VM that nobody wants frozen cannot be woken; it is left as it is');
          return false;
        });
      if (woken) adopted.unfrozen.push(id);
    }
    adopted.frozen = adopted.frozen.filter((id) => !adopted.unfrozen.includes(id));
  }
  log.info({ ...adopted }, 'VMs adopted');
  return adopted;
}

/**
 * Only `running`: in any other state the disk may already belong to a saved memory,
 * which a guest that went on would make worthless.
 */
function isIdle(sandbox: AssignedSandbox): boolean {
  return sandbox.state === 'running' && !sandbox.open_operation;
}
