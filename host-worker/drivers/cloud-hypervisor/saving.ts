import { DomainError } from '../../../workflows/contract/errors.js';
import { removeTree, storageFailure } from '../../durable-file.js';
import { measureMemory } from '../../saved-memory.js';
import { saysDiskFull } from '../../system-failure.js';
import type { VmRecord } from '../vmm/vm-folder.js';
import { isLoading, untilLoaded } from './loading.js';
import { BEHIND_SNAPSHOT_MS, type Machine } from './machine.js';

/** Saves the memory of a frozen VM as the directory `file`: complete, or not there at all. */
export async function saveVm(
  machine: Machine,
  id: string,
  file: string,
  signal: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  signal.throwIfAborted();
  // Answered only when a save that a worker before this one left behind is through.
  const { state } = await machine.api(id).info({ timeoutMs: BEHIND_SNAPSHOT_MS, signal });
  if (state !== 'Paused') {
    throw new DomainError('state_conflict', `the VM of ${id} runs: freeze it before it is saved`);
  }
  const record = await machine.folder(id).record();
  await loaded(machine, id, record, signal);
  const workspace = machine.workspace(id);
  const directory = await workspace.prepareSave();
  // Not given up in the middle: the VMM would go on, and could be told nothing else until it is done.
  await machine
    .api(id)
    .snapshot(directory)
    .catch((err: unknown) => {
      throw signal.aborted ? err : saveFailure(err, file);
    });
  signal.throwIfAborted();
  try {
    await workspace.handOver(file, { filled: record?.memory !== undefined });
    const measured = await measureMemory(file);
    signal.throwIfAborted();
    return measured;
  } catch (err) {
    await removeTree(file);
    throw err;
  }
}

/** What is saved of a VM that still loads its memory would lack the rest. */
async function loaded(machine: Machine, id: string, record: VmRecord | undefined, signal: AbortSignal): Promise<void> {
  if (record?.memory === undefined || !(await isLoading(record.process, record.memory))) return;
  const began = Date.now();
  machine.warn({ sandboxId: id }, 'the save waits: the VM still loads the memory that it was restored from');
  await untilLoaded(id, record.process, record.memory, signal);
  machine.warn({ sandboxId: id, ms: Date.now() - began }, 'the VM has loaded its memory; the save goes on');
}

/** Its own words of a full disk are in the refusal. */
function saveFailure(err: unknown, file: string): unknown {
  if (!(err instanceof DomainError) || !saysDiskFull(err.message)) return storageFailure(err, `writing ${file}`);
  return new DomainError(
    'disk_full',
    `no space left while writing ${file}: ${err.message}; see \`df -h\` on the host`,
    {},
    { cause: err },
  );
}
