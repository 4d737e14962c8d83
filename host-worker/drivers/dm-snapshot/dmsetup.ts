import { setTimeout as sleep } from 'node:timers/promises';
import { CommandError, type Exec } from '../../exec.js';
import { CHUNK_SECTORS } from './cow-size.js';

/** Activating reads the whole exception store. */
const TIMEOUT_MS = 60_000;
const BACKOFF_MS = { first: 20, last: 500 };

/**
 * dmsetup makes and removes the node in /dev/mapper itself, with and without udev, which else would own it: there
 * is nothing to wait for, no rule looks into what a guest wrote, and the owner of the node stays who we make it.
 */
export const OWN_NODES = ['--noudevsync', '--noudevrules', '--verifyudev'];

/** `other` is a device that has no table, as where dmsetup was killed, or one that is no snapshot. */
export type DeviceTable = { kind: 'snapshot'; origin: string; cow: string } | { kind: 'other' };

export type SnapshotState = 'valid' | 'invalid' | 'overflow' | 'unknown';

/** What the kernel says of a snapshot; sizes are 0 where it does not tell. */
export interface SnapshotStatus {
  state: SnapshotState;
  /** Of the device, and thereby of its base. */
  sectors: number;
  usedSectors: number;
  cowSectors: number;
}

export interface SnapshotTable {
  /** Of the base. */
  sectors: number;
  /** Devices. */
  origin: string;
  cow: string;
}

/**
 * `PO`: a store without room fails further writes but stays valid. With `P` the kernel would mark it invalid on
 * disk, and everything the guest ever wrote would be lost. Discards free the room of a chunk in the CoW file.
 */
export function snapshotTable({ sectors, origin, cow }: SnapshotTable): string {
  return `0 ${sectors} snapshot ${origin} ${cow} PO ${CHUNK_SECTORS} 1 discard_zeroes_cow`;
}

/** What the driver needs of `dmsetup`, and what it prints. */
export class Dmsetup {
  constructor(
    private readonly exec: Exec,
    private readonly busyMs: number,
  ) {}

  async createSnapshot(name: string, table: SnapshotTable, signal?: AbortSignal): Promise<void> {
    await this.#run(['create', name, ...OWN_NODES, '--table', snapshotTable(table)], signal);
  }

  /**
   * Retried only while somebody has the device open: a VMM that the kernel is still ending, or udev having a look.
   * Every other failure is final.
   */
  async remove(name: string): Promise<void> {
    const deadline = performance.now() + this.busyMs;
    for (let pause = BACKOFF_MS.first; ; pause = Math.min(pause * 2, BACKOFF_MS.last)) {
      try {
        await this.#run(['remove', name, ...OWN_NODES]);
        return;
      } catch (err) {
        const reason = refusalOf(err);
        if (reason === 'absent') return;
        if (reason !== 'busy' || performance.now() > deadline) throw err;
      }
      await sleep(pause);
    }
  }

  /** Undefined where there is no such device. */
  async table(name: string): Promise<DeviceTable | undefined> {
    try {
      return parseTable((await this.#run(['table', name])).stdout);
    } catch (err) {
      if (refusalOf(err) === 'absent') return undefined;
      throw err;
    }
  }

  /** Undefined where there is no such device. */
  async status(name: string): Promise<SnapshotStatus | undefined> {
    try {
      const { stdout } = await this.#run(['status', name]);
      return parseStatuses(`${name}: ${stdout}`).get(name);
    } catch (err) {
      if (refusalOf(err) === 'absent') return undefined;
      throw err;
    }
  }

  /** Of all snapshots of the machine, by name. */
  async statuses(): Promise<Map<string, SnapshotStatus>> {
    return parseStatuses((await this.#run(['status', '--target', 'snapshot'])).stdout);
  }

  async names(): Promise<string[]> {
    return parseNames((await this.#run(['ls'])).stdout);
  }

  async makeNode(name: string): Promise<void> {
    await this.#run(['mknodes', name]);
  }

  /** Names and versions of the targets that the kernel has. */
  async targets(): Promise<Map<string, string>> {
    const { stdout } = await this.#run(['targets']);
    return new Map([...stdout.matchAll(/^(\S+)\s+(v\S+)/gm)].map(([, name = '', version = '']) => [name, version]));
  }

  #run(args: string[], signal?: AbortSignal): Promise<{ stdout: string; stderr: string }> {
    return this.exec.run(['dmsetup', ...args], { timeoutMs: TIMEOUT_MS, signal });
  }
}

/** dmsetup ends with 1 whatever happened; there is no better way than its words. */
function refusalOf(err: unknown): 'absent' | 'busy' | undefined {
  if (!(err instanceof CommandError) || err.exitCode === null) return undefined;
  if (/Device or resource busy/.test(err.stderr)) return 'busy';
  return /No such device or address|Device does not exist|not found/.test(err.stderr) ? 'absent' : undefined;
}

/** `0 131072 snapshot 7:0 7:1 PO 8 1 discard_zeroes_cow`; nothing at all for a device without a table. */
export function parseTable(line: string): DeviceTable {
  const match = /^0 \d+ snapshot (\d+:\d+) (\d+:\d+) /.exec(line);
  return match === null ? { kind: 'other' } : { kind: 'snapshot', origin: match[1] ?? '', cow: match[2] ?? '' };
}

/**
 * One line per device: `name: 0 131072 snapshot 16/40960 16`, where the last number is the sectors of the store's
 * own bookkeeping, which the first includes; or a word instead: `Invalid`, `Overflow`, `Merge failed`, `Unknown`.
 */
export function parseStatuses(text: string): Map<string, SnapshotStatus> {
  const found = new Map<string, SnapshotStatus>();
  for (const [, name = '', sectors, said = ''] of text.matchAll(/^(\S+): 0 (\d+) snapshot (.*)$/gm)) {
    const usage = /^(\d+)\/(\d+) \d+$/.exec(said.trim());
    found.set(name, {
      state: usage === null ? stateOf(said.trim()) : 'valid',
      sectors: Number(sectors),
      usedSectors: Number(usage?.[1] ?? 0),
      cowSectors: Number(usage?.[2] ?? 0),
    });
  }
  return found;
}

function stateOf(said: string): SnapshotState {
  if (said === 'Invalid' || said === 'Merge failed') return 'invalid';
  return said === 'Overflow' ? 'overflow' : 'unknown';
}

/** `name<tab>(253:0)` per line, or a sentence when there is none. */
export function parseNames(text: string): string[] {
  return [...text.matchAll(/^(\S+)\s+\(\d+[:,] ?\d+\)/gm)].map(([, name = '']) => name);
}
