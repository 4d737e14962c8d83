import { access, constants, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';

const ROOT = '/sys/fs/cgroup';
const CONTROLLERS = ['memory', 'pids'];

/**
 * A service manager ends everything in a group that it stops. A host worker that was given a
 * group for its VMs must therefore not start without it: its VMs would end with it, at
 * the next upgrade.
 */
export async function requireCgroupParent(path: string, root = ROOT): Promise<void> {
  const directory = join(root, path);
  try {
    const handedDown = (await readFile(join(directory, 'cgroup.controllers'), 'utf8')).trim().split(' ');
    const lacking = CONTROLLERS.filter((controller) => !handedDown.includes(controller));
    if (lacking.length > 0) throw new Error(`it has no ${lacking.join(' and no ')} controller`);
    await access(join(directory, 'cgroup.subtree_control'), constants.W_OK);
  } catch (err) {
    const why = err instanceof Error ? err.message : String(err);
    const unit = path.split('/').at(-1) ?? path;
    throw new DomainError(
      'unsupported',
      `the control group of TORPOR_VM_CGROUP cannot be used: ${directory}: ${why}; see \`systemctl status ${unit}\`, which needs Delegate=memory pids and control groups of version 2`,
      {},
      { cause: err },
    );
  }
}
