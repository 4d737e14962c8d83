import { readFile } from 'node:fs/promises';

/** Differs for every boot of the machine. */
export async function currentBoot(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}
