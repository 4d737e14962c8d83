import { DomainError } from '../../workflows/contract/errors.js';
import type { HostPorts } from './ports.js';

type Looked = Pick<HostPorts, 'hypervisor' | 'disk' | 'snapshots'>;

/**
 * Does what only a guest with its memory can take part in. Once the VM is gone no retry brings its memory back, so that is
 * told apart from a guest that only does not answer. Looked at before, because a VM that is gone answers nothing and its
 * silence would have to be waited for; and after a failure, because it may have ended meanwhile.
 */
export async function withMemory<T>(ports: Looked, id: string, work: () => Promise<T>): Promise<T> {
  await requireVm(ports, id);
  return explained(ports, id, work);
}

/** As `withMemory`, where the VM need not be there if the work is done already. */
export async function explained<T>(ports: Looked, id: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (err) {
    await requireVm(ports, id, err);
    throw err;
  }
}

async function requireVm(ports: Looked, id: string, cause?: unknown): Promise<void> {
  if ((await ports.hypervisor.status(id)) !== 'absent') return;
  const [disk, snapshots] = await Promise.all([ports.disk.find(id), ports.snapshots.generations(id)]);
  const left = [...(disk ? ['its disk'] : []), ...snapshots.map((generation) => `memory snapshot ${generation}`)];
  throw new DomainError(
    'memory_lost',
    `the VM of ${id} is gone, and what was in its memory with it; left on this host: ${left.join(', ') || 'nothing'}`,
    { sandboxId: id, disk: disk !== undefined, snapshots },
    cause === undefined ? {} : { cause },
  );
}
