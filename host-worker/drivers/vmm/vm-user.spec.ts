import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ChildProcessExec } from '../../exec.js';
import { lookUpUser, requireReachable } from './vm-user.js';

const stranger = { name: 'stranger', uid: 54_321, gid: 54_321 };
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'reach-'));
  await chmod(dir, 0o711);
  await mkdir(join(dir, 'open'), { mode: 0o711 });
  await mkdir(join(dir, 'closed'), { mode: 0o700 });
});
afterAll(async () => rm(dir, { recursive: true }));

describe('requireReachable', () => {
  it('accepts directories that can be entered', async () => {
    await requireReachable(stranger, join(dir, 'open', 'file'));
  });

  it('names the one that cannot', async () => {
    await expect(requireReachable(stranger, join(dir, 'closed', 'file'))).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining(`cannot enter ${join(dir, 'closed')} `),
    });
    const { uid, gid } = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    await requireReachable({ name: 'owner', uid, gid }, join(dir, 'closed', 'file'));
  });

  it('names what is missing', async () => {
    await expect(requireReachable(stranger, join(dir, 'none', 'file'))).rejects.toMatchObject({ code: 'not_found' });
  });
});

describe('lookUpUser', () => {
  it('finds a user and tells how to make a missing one', async () => {
    const exec = new ChildProcessExec();
    expect(await lookUpUser(exec, 'root')).toEqual({ name: 'root', uid: 0, gid: 0 });
    await expect(lookUpUser(exec, 'no-such-user')).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining('useradd'),
    });
  });
});
