import type { VmSpec } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { installing } from '../../exec.js';
import { printedRefusal, saysDiskFull } from '../../system-failure.js';

/** Why a VM did not start, from what was thrown and from what the VMM printed before it ended. */
export function startFailure(id: string, spec: VmSpec, cause: unknown, log: string): unknown {
  if (cause instanceof DomainError && cause.code !== 'command_failed' && cause.code !== 'timeout') return cause;
  const reason = log === '' ? (cause instanceof Error ? cause.message : String(cause)) : log;
  if (saysDiskFull(log)) {
    return new DomainError('disk_full', `the VM of ${id} did not start: ${reason}; see \`df -h\``, {}, { cause });
  }
  if (spec.memoryFile !== undefined && /load of migration failed|Unknown ramblock|unknown section/i.test(log)) {
    const sentence = `QEMU cannot load the saved memory ${spec.memoryFile} of ${id}: ${reason}`;
    return new DomainError('snapshot_corrupt', sentence, {}, { cause });
  }
  const remedy = remedyOf(spec, log);
  return new DomainError(
    'command_failed',
    `the VM of ${id} did not start: ${reason}${remedy === undefined ? '' : `; ${remedy}`}`,
    {},
    { cause },
  );
}

/** What to look at, as far as QEMU's last words tell. */
function remedyOf(spec: VmSpec, log: string): string | undefined {
  // `nsenter` and `setpriv`, which it is started through, say it of what they could not find.
  const missing = /failed to execute (\S+?):? No such file/.exec(log)?.[1];
  if (missing !== undefined) return installing(missing);
  if (/-blockdev \S+: /.test(log)) {
    return `look at its disk with \`qemu-img check ${spec.disk.path}\` and \`qemu-img info --backing-chain ${spec.disk.path}\``;
  }
  return printedRefusal(log);
}
