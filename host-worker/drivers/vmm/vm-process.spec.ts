import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ChildProcessExec } from '../../exec.js';
import { findByArgument, identify, isAlive, killProcess } from './vm-process.js';

const exec = new ChildProcessExec();
let dir = '';
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'process-'))));
afterAll(async () => rm(dir, { recursive: true }));

const sleeper = (...args: string[]): Promise<{ pid: number }> =>
  exec.spawnDetached(['sh', '-c', 'sleep 300 & wait', ...args], { logFile: join(dir, 'log') });

describe('a process', () => {
  it('is known by more than its number', async () => {
    const { pid } = await sleeper();
    const process = await identify(pid);
    if (process === undefined) throw new Error('not identified');
    expect(await isAlive(process)).toBe(true);
    expect(await isAlive({ ...process, startTime: '1' })).toBe(false);
    expect(await isAlive({ ...process, bootId: 'another' })).toBe(false);
    await killProcess({ ...process, startTime: '1' }, 1000);
    expect(await isAlive(process)).toBe(true);
    await killProcess(process, 5000);
    await killProcess(process, 5000);
    expect(await isAlive(process)).toBe(false);
    await expect(stat(`/proc/${pid}/exe`)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await identify(pid)).toBeUndefined();
  });

  it('is found by an argument that only it has', async () => {
    const { pid } = await sleeper('name', `path=${dir}/control,server=on`);
    const found = await findByArgument(`${dir}/control`);
    expect(found.map((process) => process.pid)).toEqual([pid]);
    for (const process of found) await killProcess(process, 5000);
    expect(await findByArgument(`${dir}/control`)).toEqual([]);
  });
});
