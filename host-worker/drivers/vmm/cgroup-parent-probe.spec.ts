import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { requireCgroupParent } from './cgroup-parent-probe.js';

const PATH = 'torpor.slice/vms.service';
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cgroup-'));
});
afterEach(() => rm(root, { recursive: true }));

async function group(controllers: string): Promise<void> {
  await mkdir(join(root, PATH), { recursive: true });
  await writeFile(join(root, PATH, 'cgroup.controllers'), `${controllers}\n`);
  await writeFile(join(root, PATH, 'cgroup.subtree_control'), '');
}

describe('the group that VMs get theirs in', () => {
  it('is taken when memory and pids were handed down to it', async () => {
    await group('cpu memory pids');
    await expect(requireCgroupParent(PATH, root)).resolves.toBeUndefined();
  });

  it('is refused when it is not there, naming it and where to look', async () => {
    await expect(requireCgroupParent(PATH, root)).rejects.toThrow(
      /TORPOR_VM_CGROUP .*vms\.service.*ENOENT.*systemctl status vms\.service/,
    );
  });

  it('is refused when it cannot limit anything', async () => {
    await group('cpu');
    await expect(requireCgroupParent(PATH, root)).rejects.toThrow(/no memory and no pids controller.*Delegate/);
  });
});
