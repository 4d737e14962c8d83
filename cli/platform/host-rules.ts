import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { runCommand, tryCommand } from './command.js';

/**
 * Deletes the firewall table of the host worker of a data directory that is going to be
 * deleted. A host worker leaves its table behind on purpose, because it is what keeps
 * running machines apart; its name is made from the path of the directory.
 */
export async function removeHostRules(dataDirectory: string): Promise<void> {
  const tag = createHash('sha256').update(realpathSync(dataDirectory)).digest('hex').slice(0, 8);
  const table = ['table', 'inet', `torpor_${tag}`] as const;
  const { exitCode } = await tryCommand(['nft', 'list', ...table]);
  if (exitCode === 0) await runCommand(['nft', 'delete', ...table]);
}
