import { DomainError } from '../../../workflows/contract/errors.js';
import { MEMORY_FD } from './machine.js';
import type { MemoryReceiver } from './memory-file.js';
import type { QmpClient, QmpEvent, Wait } from './qmp-client.js';

/** Memory is written and read at what the disk gives; beyond this something hangs. */
const MEMORY_TIMEOUT_MS = 10 * 60_000;

/** No throttling: the guest stands still, and nobody else uses this socket. Bytes per second. */
const UNLIMITED = 2 ** 40;

const ENDED = new Set(['completed', 'failed', 'cancelled']);

interface MigrationInfo {
  status?: string;
  'error-desc'?: string;
}

/** Sends the memory of a stopped VM to the receiver and waits until it is on stable storage. */
export async function sendMemory(
  qmp: QmpClient,
  receiver: MemoryReceiver,
  socketPath: string,
  signal: AbortSignal | undefined,
): Promise<{ bytes: number; sha256: string }> {
  await reportEvents(qmp);
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': UNLIMITED });
  // Ends the receiver when QEMU gives up, even if that happens before it connects.
  const failed = new AbortController();
  const received = receiver.receive(AbortSignal.any([failed.signal, ...(signal === undefined ? [] : [signal])]));
  received.catch(() => undefined);
  try {
    const ended = endOfMigration(qmp, { timeoutMs: MEMORY_TIMEOUT_MS, signal });
    await qmp.execute('migrate', { uri: `unix:${socketPath}` }, { signal });
    // A full disk ends the receiver first; then QEMU's own complaint about the broken socket says nothing.
    const first = await Promise.race([ended, received.then(() => ended)]);
    if (first.data['status'] !== 'completed') throw await brokenMigration(qmp, received);
    return await received;
  } catch (err) {
    failed.abort(err);
    throw err;
  }
}

/** Loads what `sendMemory` sent, from the descriptor that QEMU has inherited. */
export async function loadMemory(qmp: QmpClient, signal: AbortSignal | undefined): Promise<void> {
  await reportEvents(qmp);
  const ended = endOfMigration(qmp, { timeoutMs: MEMORY_TIMEOUT_MS, signal });
  await qmp.execute('migrate-incoming', { uri: `fd:${MEMORY_FD}` }, { signal });
  const { data } = await ended;
  if (data['status'] !== 'completed') throw new DomainError('command_failed', 'QEMU could not load the saved memory');
}

/** Ends a save that is under way, of this worker or of one that died in it. */
export async function cancelMigration(qmp: QmpClient): Promise<void> {
  // Events were turned on when it began, and cannot be while it runs.
  const ended = endOfMigration(qmp, { timeoutMs: 30_000 });
  const { status } = (await qmp.execute('query-migrate')) as MigrationInfo;
  if (status === undefined || status === 'none' || ENDED.has(status)) return;
  await qmp.execute('migrate_cancel');
  await ended;
}

async function reportEvents(qmp: QmpClient): Promise<void> {
  await qmp.execute('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
}

function endOfMigration(qmp: QmpClient, wait: Wait): Promise<QmpEvent> {
  return qmp.event('MIGRATION', ({ status }) => typeof status === 'string' && ENDED.has(status), wait);
}

async function brokenMigration(qmp: QmpClient, received: Promise<unknown>): Promise<unknown> {
  const info = (await qmp.execute('query-migrate')) as MigrationInfo;
  const atReceiver: unknown = await received.then(
    () => undefined,
    (err: unknown) => err,
  );
  if (atReceiver instanceof DomainError) return atReceiver;
  const reason = info['error-desc'] ?? info.status ?? 'no reason given';
  return new DomainError('command_failed', `QEMU could not save the memory: ${reason}`, {}, { cause: atReceiver });
}
