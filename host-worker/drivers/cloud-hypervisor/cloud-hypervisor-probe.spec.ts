import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ChildProcessExec } from '../../exec.js';
import { probeCloudHypervisor } from './cloud-hypervisor-probe.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ch-probe-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function program(directory: string, script: string): Promise<string> {
  const file = join(folder, directory, 'cloud-hypervisor');
  await mkdir(join(folder, directory), { recursive: true });
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return file;
}

const probe = (places: { bin?: string; path?: string }) =>
  probeCloudHypervisor(new ChildProcessExec(), { bin: places.bin, path: places.path ?? '' });

describe('the probe of Cloud Hypervisor', () => {
  it('takes what is named before what is on the path', async () => {
    const named = await program('named', 'echo cloud-hypervisor v53.0.0');
    await program('path', 'echo cloud-hypervisor v60.0.0');
    expect(await probe({ bin: named, path: join(folder, 'path') })).toEqual({
      usable: true,
      why: `Cloud Hypervisor 53.0.0 (${named})`,
      binary: named,
    });
  });

  it('finds it on the path, behind what is not there, no program or not absolute', async () => {
    const file = await program('second', 'echo cloud-hypervisor v52.0');
    await mkdir(join(folder, 'first/cloud-hypervisor'), { recursive: true });
    const path = ['', '.', join(folder, 'absent'), join(folder, 'first'), join(folder, 'second')].join(':');
    expect(await probe({ path })).toMatchObject({ usable: true, binary: file });
  });

  it('refuses one that is too old, naming what is found and what is needed', async () => {
    const bin = await program('old', 'echo cloud-hypervisor v51.1.0');
    expect(await probe({ bin })).toMatchObject({
      usable: false,
      why: expect.stringMatching(/is version 51\.1\.0, but version 52\.0 or newer is needed/),
      binary: bin,
    });
  });

  it.each([
    ['echo hello', /does not tell its version: hello/],
    ['echo broken >&2; exit 3', /exit code 3: broken/],
  ])('says what is wrong with a program that does `%s`', async (script, why) => {
    expect((await probe({ bin: await program('odd', script) })).why).toMatch(why);
  });

  it('says where it looked', async () => {
    expect((await probe({})).why).toBe('there is no cloud-hypervisor on PATH, nor in TORPOR_CLOUD_HYPERVISOR_BIN');
    expect((await probe({ bin: join(folder, 'gone') })).why).toMatch(/gone is no program that can be run/);
  });
});
