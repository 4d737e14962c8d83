import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { Finding } from '../../driver-choice.js';
import type { Exec } from '../../exec.js';
import type { TestGuest } from '../qemu/kvm-probe.js';
import type { GuestBoot } from '../qemu/machine.js';
import { findVersion } from './version.js';

const PROGRAM = 'cloud-hypervisor';
const VARIABLE = 'TORPOR_CLOUD_HYPERVISOR_BIN';

/** Where the binary may come from. */
export interface CloudHypervisorPlaces {
  /** What the operator named. */
  bin: string | undefined;
  /** Directories to look in, as in PATH. */
  path: string;
}

export interface FoundCloudHypervisor extends Finding {
  /** Absent when there is none that can be run. */
  binary?: string;
}

/** The binary and whether it is new enough; no package registry carries it, so it is not there on most machines. */
export async function probeCloudHypervisor(exec: Exec, places: CloudHypervisorPlaces): Promise<FoundCloudHypervisor> {
  const { bin, path } = places;
  if (bin !== undefined && !(await isProgram(bin)))
    return { usable: false, why: `${VARIABLE}=${bin} is no program that can be run` };
  const binary = bin ?? (await onPath(path));
  if (binary === undefined) return { usable: false, why: `there is no ${PROGRAM} on PATH, nor in ${VARIABLE}` };
  try {
    const { text } = await findVersion(exec, binary);
    return { usable: true, why: `Cloud Hypervisor ${text} (${binary})`, binary };
  } catch (err) {
    if (!(err instanceof DomainError)) throw err;
    return { usable: false, why: err.message, binary };
  }
}

/** The initramfs serves as the disk as well: what counts is that it holds no file system. */
export function cloudHypervisorTestGuest(binary: string, boot: GuestBoot): TestGuest {
  return {
    vmm: 'Cloud Hypervisor',
    argv: [
      binary,
      ...['--kernel', boot.kernel, '--initramfs', boot.initramfs, '--cmdline', boot.cmdline],
      ...['--cpus', 'boot=1', '--memory', 'size=128M'],
      ...['--disk', `path=${boot.initramfs},readonly=on,image_type=raw`],
      ...['--serial', 'tty', '--console', 'off'],
    ],
  };
}

async function onPath(path: string): Promise<string | undefined> {
  for (const directory of path.split(delimiter)) {
    const candidate = join(directory, PROGRAM);
    if (directory.startsWith('/') && (await isProgram(candidate))) return candidate;
  }
  return undefined;
}

async function isProgram(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
