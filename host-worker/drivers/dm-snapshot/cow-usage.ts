import { DomainError } from '../../../workflows/contract/errors.js';
import { SECTOR_BYTES, fullCowBytes } from './cow-size.js';
import type { SnapshotState, SnapshotStatus } from './dmsetup.js';

/** Of the CoW file: from here on somebody should know, and from here on it must not fill further. */
const WARN_AT = 0.8;
const FULL_AT = 0.95;

/** How full the CoW file of an attached disk is. */
export interface CowUsage {
  id: string;
  state: SnapshotState;
  usedBytes: number;
  cowBytes: number;
  /** More than this it never needs. */
  fullBytes: number;
  level: 'ok' | 'warn' | 'full';
}

export function usageOf(id: string, status: SnapshotStatus): CowUsage {
  const usedBytes = status.usedSectors * SECTOR_BYTES;
  const cowBytes = status.cowSectors * SECTOR_BYTES;
  const fullBytes = fullCowBytes(status.sectors);
  return {
    id,
    state: status.state,
    usedBytes,
    cowBytes,
    fullBytes,
    level: levelOf(status.state, usedBytes, cowBytes, fullBytes),
  };
}

/** A file that has room for all of its base cannot overflow, however full it is. */
function levelOf(state: SnapshotState, used: number, cow: number, full: number): CowUsage['level'] {
  if (state === 'overflow') return 'full';
  if (cow >= full || cow === 0) return 'ok';
  if (used >= cow * FULL_AT) return 'full';
  return used >= cow * WARN_AT ? 'warn' : 'ok';
}

/** For people: `95% of 1024 MiB`. */
export function usageText({ state, usedBytes, cowBytes }: CowUsage): string {
  if (state !== 'valid') return state === 'overflow' ? 'all of it, and writes were refused' : state;
  return `${Math.floor((usedBytes / cowBytes) * 100)}% of ${Math.floor(cowBytes / 2 ** 20)} MiB`;
}

/**
 * The kernel has given the snapshot up, on disk and for good: it could not write to the CoW file, most often because
 * the file system below had no space left. What the guest wrote cannot be told from what it did not any more.
 */
export function invalidated(id: string, cow: string): DomainError {
  return new DomainError(
    'sandbox_lost',
    `the disk of ${id} is lost: the kernel has invalidated its snapshot because ${cow} could not be written to; see \`dmesg\` and \`df -h ${cow}\` for why`,
    { sandboxId: id, cow },
  );
}

export function cowFull(usage: CowUsage): DomainError {
  return new DomainError(
    'disk_full',
    `the disk of ${usage.id} has used ${usageText(usage)} of its copy-on-write file and no policy lets it grow; allow growth, or destroy the sandbox`,
    { sandboxId: usage.id, usedBytes: usage.usedBytes, cowBytes: usage.cowBytes },
  );
}
