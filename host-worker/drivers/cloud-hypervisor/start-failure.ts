import type { VmSpec } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { installing } from '../../exec.js';
import { printedRefusal, saysDiskFull } from '../../system-failure.js';

/** What it says when saved memory is at fault, rather than a device or the machine that the VM is given. */
const BAD_MEMORY = /deserializ|snapshot file|SnapshotCopy|failed to fill whole buffer|CPUID|cpuid|Could not convert/i;

/** Why a VM did not start, from what was thrown and from what the VMM printed before it ended. */
export function startFailure(id: string, spec: VmSpec, cause: unknown, log: string): unknown {
  if (cause instanceof DomainError && cause.code !== 'command_failed' && cause.code !== 'timeout') return cause;
  const thrown = cause instanceof Error ? cause.message : String(cause);
  // A refusal is complete in itself; where there was no answer, the log tells why.
  const said = log === '' || /refused/.test(thrown) ? thrown : log;
  const everything = `${thrown}\n${log}`;
  if (saysDiskFull(everything)) {
    return new DomainError('disk_full', `the VM of ${id} did not start: ${said}; see \`df -h\``, {}, { cause });
  }
  if (spec.memoryFile !== undefined && BAD_MEMORY.test(everything)) {
    const sentence = `Cloud Hypervisor cannot load the saved memory ${spec.memoryFile} of ${id}: ${said}`;
    return new DomainError('snapshot_corrupt', sentence, {}, { cause });
  }
  const remedy = remedyOf(spec, everything);
  const sentence = `the VM of ${id} did not start: ${said}${remedy === undefined ? '' : `; ${remedy}`}`;
  return new DomainError('command_failed', sentence, {}, { cause });
}

/** What to look at, as far as its last words tell. */
function remedyOf({ disk }: VmSpec, text: string): string | undefined {
  // `nsenter` and `setpriv`, which it is started through, say it of what they could not find.
  const missing = /failed to execute (\S+?):? No such file/.exec(text)?.[1];
  if (missing !== undefined) return installing(missing);
  if (/\/dev\/kvm|Failed to (open|create|establish).*\bKVM\b|opening KVM/i.test(text))
    return 'see `ls -l /dev/kvm` and `torpor doctor`';
  if (/lock/i.test(text) && text.includes(disk.path)) return `see \`lslocks\` and \`fuser -v ${disk.path}\``;
  if (/qcow|disk image|image type/i.test(text)) {
    return `look at its disk with \`qemu-img info --backing-chain ${disk.path}\``;
  }
  return printedRefusal(text);
}
