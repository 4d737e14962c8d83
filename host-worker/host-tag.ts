import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';

/**
 * Tells a host worker's interfaces and rules from those of another one on the machine.
 * Of its data directory, not of the host's id: what a worker made is found again even
 * after the host was registered anew.
 */
export async function hostTag(dataDir: string): Promise<string> {
  return createHash('sha256')
    .update(await realpath(dataDir))
    .digest('hex')
    .slice(0, 8);
}

/** The one firewall table of the host worker with this tag. */
export function hostTable(tag: string): string {
  return `torpor_${tag.replaceAll(/[^a-zA-Z0-9_]/g, '_')}`;
}
