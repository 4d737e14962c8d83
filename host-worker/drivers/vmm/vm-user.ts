import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import { CommandError, type Exec } from '../../exec.js';

/** Whom the VMM runs as. */
export interface VmUser {
  name: string;
  uid: number;
  gid: number;
}

export async function lookUpUser(exec: Exec, name: string): Promise<VmUser> {
  try {
    const fields = (await exec.run(['getent', 'passwd', name])).stdout.split(':');
    return { name, uid: Number(fields[2]), gid: Number(fields[3]) };
  } catch (err) {
    if (!(err instanceof CommandError && err.exitCode === 2)) throw err;
    const remedy = `create it: useradd --system --no-create-home --shell /usr/sbin/nologin ${name}`;
    throw new DomainError(
      'unsupported',
      `the user ${name}, whom VMs run as, does not exist; ${remedy}`,
      {},
      { cause: err },
    );
  }
}

/** Drops everything but the user's own rights, for good; `kvm` adds the group that may open /dev/kvm. */
export async function asUser(user: VmUser, kvm: boolean): Promise<string[]> {
  const group = kvm ? await kvmGroup() : undefined;
  return [
    'setpriv',
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    group === undefined ? '--clear-groups' : `--groups=${group}`,
    '--inh-caps=-all',
    '--bounding-set=-all',
    '--no-new-privs',
  ];
}

/** Asked of the kernel as that user, because mode bits do not tell of access control lists. */
export async function mayOpen(exec: Exec, user: VmUser, device: string): Promise<boolean> {
  try {
    await exec.run([...(await asUser(user, true)), 'test', '-r', device, '-a', '-w', device]);
    return true;
  } catch (err) {
    if (err instanceof CommandError && err.exitCode === 1) return false;
    throw err;
  }
}

async function kvmGroup(): Promise<number | undefined> {
  try {
    const { gid, mode } = await stat('/dev/kvm');
    return gid !== 0 && (mode & 0o060) === 0o060 ? gid : undefined;
  } catch (err) {
    if (hasErrno(err, 'ENOENT')) return undefined;
    throw err;
  }
}

/**
 * Fails with a remedy when the user cannot get to a file. QEMU would only say
 * "Permission denied", of a path whose own mode looks right.
 */
export async function requireReachable(user: VmUser, path: string): Promise<void> {
  for (let dir = dirname(path); ; dir = dirname(dir)) {
    const { mode, uid, gid } = await statOrMissing(dir, path);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) {
      throw new DomainError(
        'unsupported',
        `VMs run as ${user.name}, who cannot enter ${dir} on the way to ${path}; run \`chmod o+x ${dir}\` or use another directory`,
      );
    }
    if (dir === dirname(dir)) return;
  }
}

async function statOrMissing(dir: string, path: string): Promise<{ mode: number; uid: number; gid: number }> {
  try {
    return await stat(dir);
  } catch (err) {
    if (!hasErrno(err, 'ENOENT')) throw err;
    throw new DomainError('not_found', `${path} is missing on this host`, {}, { cause: err });
  }
}
