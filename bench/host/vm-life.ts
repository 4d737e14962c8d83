import type { EnvdGuest } from '../../host-worker/drivers/envd/envd-guest.driver.js';

export interface VmShape {
  vcpus: number;
  memoryMb: number;
}

/** What can be measured of one VM, done by the drivers or by the tools that the drivers call. In the order of its life. */
export interface HostSide {
  /** Returns the address at which the guest will answer. */
  networkUp(): Promise<string>;
  attachDisk(): Promise<void>;
  /** Until the API of the process answers and the virtual CPUs run. */
  startCold(): Promise<void>;
  freeze(): Promise<void>;
  /** Everything is on stable storage when this returns. */
  snapshot(directory: string): Promise<void>;
  kill(): Promise<void>;
  restore(directory: string, mode: 'eager' | 'on demand'): Promise<void>;
  /** Until nothing is loaded in the background any more. */
  loaded(): Promise<void>;
  detachDisk(): Promise<void>;
  networkDown(): Promise<void>;
  /** Of the process that holds the guest's memory. */
  pid(): Promise<number>;
}

export const CALLS = [
  'network up',
  'disk attach',
  'VMM start to running CPUs',
  'boot to first agent answer',
  'freeze',
  'snapshot to stable storage',
  'kill',
  'disk detach',
  'disk attach again',
  'restore eager to first agent answer',
  'restore on demand to first agent answer',
  'network down',
] as const;
export type Call = (typeof CALLS)[number];

const BOOT_MS = 300_000;

/** Milliseconds of each call of one life. `look` is told when the guest stands still and its memory is saved. */
export async function live(
  side: HostSide,
  guest: EnvdGuest,
  directory: string,
  look: (directory: string) => Promise<void>,
): Promise<Map<Call, number>> {
  const times = new Map<Call, number>();
  const timed = async <T>(call: Call, work: () => Promise<T>): Promise<T> => {
    const from = performance.now();
    const result = await work();
    times.set(call, performance.now() - from);
    return result;
  };
  const address = await timed('network up', () => side.networkUp());
  await timed('disk attach', () => side.attachDisk());
  await timed('boot to first agent answer', async () => {
    await timed('VMM start to running CPUs', () => side.startCold());
    await guest.waitReady(address, BOOT_MS);
  });
  await guest.quiesce(address);
  await timed('freeze', () => side.freeze());
  await timed('snapshot to stable storage', () => side.snapshot(directory));
  await look(directory);
  await timed('kill', () => side.kill());
  await timed('disk detach', () => side.detachDisk());
  await timed('disk attach again', () => side.attachDisk());
  for (const mode of ['eager', 'on demand'] as const) {
    await timed(`restore ${mode} to first agent answer`, async () => {
      await side.restore(directory, mode);
      await guest.waitReady(address, BOOT_MS);
    });
    await side.loaded();
    await side.kill();
  }
  await side.detachDisk();
  await timed('network down', () => side.networkDown());
  return times;
}
