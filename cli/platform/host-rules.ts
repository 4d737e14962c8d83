import { hostTable, hostTag } from '../../host-worker/host-tag.js';
import { runCommand, tryCommand } from './command.js';

/**
 * Deletes the firewall table of the host worker of a data directory that is going to be
 * deleted. A host worker leaves its table behind on purpose, because it is what keeps
 * running machines apart.
 */
export async function removeHostRules(dataDirectory: string): Promise<void> {
  const table = ['table', 'inet', hostTable(await hostTag(dataDirectory))] as const;
  const { exitCode } = await tryCommand(['nft', 'list', ...table]);
  if (exitCode === 0) await runCommand(['nft', 'delete', ...table]);
}
