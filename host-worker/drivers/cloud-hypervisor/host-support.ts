import { readFile } from 'node:fs/promises';
import { release as kernelRelease } from 'node:os';
import { hasErrno } from '../../errno.js';
import type { Exec } from '../../exec.js';
import { type VmUser, mayOpen } from '../vmm/vm-user.js';
import { type VmmVersion, loadsInBackground } from './version.js';

const USERFAULTFD = '/dev/userfaultfd';

/** Something that VMs can do without, and why they have to where they do. */
export interface Offer {
  usable: boolean;
  why: string;
}

/**
 * Whether saved memory can be loaded on demand. The VMM handles the page faults of its own guest, in the kernel's mode
 * too, which an unprivileged process may only through the device or where the machine allows it to everybody.
 */
export async function onDemandOffer(exec: Exec, user: VmUser, version: VmmVersion): Promise<Offer> {
  if (!loadsInBackground(version)) {
    const why = `version ${version.text} never ends loading on demand, and corrupts what is saved meanwhile`;
    return { usable: false, why: `${why}; version 53.0 or newer does it well` };
  }
  if (await mayOpen(exec, user, USERFAULTFD)) return { usable: true, why: `${user.name} may open ${USERFAULTFD}` };
  const setting = await readOrNothing('/proc/sys/vm/unprivileged_userfaultfd');
  if (setting?.trim() === '1') return { usable: true, why: 'vm.unprivileged_userfaultfd is 1' };
  const remedy = `chgrp kvm ${USERFAULTFD} && chmod 660 ${USERFAULTFD}`;
  const other = 'sysctl vm.unprivileged_userfaultfd=1';
  return { usable: false, why: `${user.name} may not open ${USERFAULTFD}; give access: ${remedy}; or: ${other}` };
}

/**
 * Whether the kernel enforces landlock as Cloud Hypervisor wants it. Built in is not enough, it must be among the active
 * security modules; and its rules name a right that Linux 6.2 was the first to know.
 */
export async function landlockOffer(release: string = kernelRelease()): Promise<Offer> {
  const path = '/sys/kernel/security/lsm';
  const active = await readOrNothing(path);
  if (active === undefined) return { usable: false, why: `${path} cannot be read; is securityfs mounted?` };
  if (!active.trim().split(',').includes('landlock')) {
    return { usable: false, why: `${path} does not name landlock; start the kernel with it in lsm=` };
  }
  if (!knowsTruncation(release)) {
    return {
      usable: false,
      why: `Linux ${release} has an older landlock than Cloud Hypervisor needs; 6.2 or newer has it`,
    };
  }
  return { usable: true, why: `${path} names landlock, and Linux ${release} knows all of its rights` };
}

export function knowsTruncation(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return major > 6 || (major === 6 && minor >= 2);
}

async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (err) {
    if (hasErrno(err, 'ENOENT') || hasErrno(err, 'EACCES')) return undefined;
    throw err;
  }
}
