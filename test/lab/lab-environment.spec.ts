import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { labEnvironment } from './lab-environment.js';

describe('the environment of labs', () => {
  let folder: string;
  let program: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'torpor-lab-environment-'));
    program = join(folder, 'cloud-hypervisor');
    writeFileSync(program, '');
    chmodSync(program, 0o755);
    writeFileSync(join(folder, 'text'), '');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('finds Cloud Hypervisor on PATH, or where it is said to be', () => {
    expect(labEnvironment({ PATH: `/nowhere:${folder}` }).cloudHypervisor).toBe(program);
    expect(labEnvironment({ PATH: '/nowhere', TORPOR_CLOUD_HYPERVISOR_BIN: program }).cloudHypervisor).toBe(program);
    expect(labEnvironment({ PATH: '/nowhere' }).cloudHypervisor).toBeUndefined();
  });

  it('refuses a name that is no program, rather than testing without it', () => {
    const named = join(folder, 'text');
    expect(() => labEnvironment({ TORPOR_CLOUD_HYPERVISOR_BIN: named })).toThrow(named);
  });
});
