import { createHash } from 'node:crypto';
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { currentBoot } from '../../boot-id.js';
import type { Exec } from '../../exec.js';
import { type KvmFinding, type KvmProbeOptions, type TestGuest, bootUnderKvm, kvmRefusal } from './kvm-probe.js';

const FILE = 'kvm-probe.json';

interface Known {
  /** Hash of all that the finding depends on. */
  of: string;
  finding: KvmFinding;
}

/**
 * As `probeKvm`, for a worker that starts: it does not boot a guest where its user has no
 * access anyway, nor a second time for what an earlier start found out since the machine
 * was booted. A guest that hangs takes the whole deadline.
 */
export async function knownKvm(
  exec: Exec,
  guest: TestGuest,
  options: KvmProbeOptions & { vmUser: string; runDir: string; vmmVersion: string },
): Promise<KvmFinding> {
  const refused = await kvmRefusal(exec, options);
  if (refused) {
    const { reason, remedy } = refused;
    return {
      usable: false,
      reason: remedy === undefined ? reason : `${reason}; \`torpor doctor\` tries whether access would help`,
    };
  }
  const path = join(options.runDir, FILE);
  const of = await dependencies(guest, options);
  const known = await read(path);
  if (known?.of === of) return { ...known.finding, reason: `${known.finding.reason} (found since the last boot)` };
  const finding = await bootUnderKvm(exec, guest, options);
  if (finding.lasting) await write(path, { of, finding });
  return finding;
}

/** The device's times and number change with its mode and with its kernel module. */
async function dependencies(
  guest: TestGuest,
  { vmUser, vmmVersion, device = '/dev/kvm' }: KvmProbeOptions & { vmmVersion: string },
): Promise<string> {
  const { ino, rdev, ctimeMs } = await stat(device);
  const all = [await currentBoot(), guest.argv, vmUser, vmmVersion, ino, rdev, ctimeMs];
  return createHash('sha256').update(JSON.stringify(all)).digest('hex');
}

/** Undefined for anything that is not whole: then the probe is made again. */
async function read(path: string): Promise<Known | undefined> {
  try {
    const known = JSON.parse(await readFile(path, 'utf8')) as Known;
    return typeof known.finding.usable === 'boolean' ? known : undefined;
  } catch {
    return undefined;
  }
}

async function write(path: string, known: Known): Promise<void> {
  await writeFile(`${path}.new`, JSON.stringify(known), { mode: 0o600 });
  await rename(`${path}.new`, path);
}
