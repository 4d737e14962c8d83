import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { DriverWishes } from './driver-choice.js';
import { DriverRecord } from './driver-record.js';

const ANYTHING: DriverWishes = { hypervisor: 'auto', disk: 'auto', accel: 'auto' };
const ID = 'sb-01jd3x5k8q0000000000000000';

let dataDir: string;
let record: DriverRecord;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'drivers-'));
  record = new DriverRecord(dataDir);
});
afterEach(() => rm(dataDir, { recursive: true }));

const withSandbox = () => mkdir(join(dataDir, 'sandboxes', ID), { recursive: true });

describe('the record of drivers', () => {
  it('says nothing on a new machine, nor where no sandbox depends on it', async () => {
    expect(await record.settle(ANYTHING)).toEqual(ANYTHING);
    await record.write('qemu', 'qcow2');
    expect(await record.settle(ANYTHING)).toEqual(ANYTHING);
  });

  it('keeps the drivers that sandboxes were made with, whatever the machine offers by now', async () => {
    await withSandbox();
    await record.write('qemu', 'qcow2');
    expect(await record.settle(ANYTHING)).toEqual({ hypervisor: 'qemu', disk: 'qcow2', accel: 'auto' });
  });

  it('takes sandboxes of a worker that recorded nothing for those of the only drivers that it had', async () => {
    await withSandbox();
    expect(await record.settle(ANYTHING)).toMatchObject({ hypervisor: 'qemu', disk: 'qcow2' });
  });

  it('gives way to what an operator asks for', async () => {
    await withSandbox();
    await record.write('qemu', 'qcow2');
    const asked: DriverWishes = { hypervisor: 'cloud-hypervisor', disk: 'dm-snapshot', accel: 'kvm' };
    expect(await record.settle(asked)).toEqual(asked);
  });

  it.each(['', '{"hypervisor":"qemu"', '{"hypervisor":"xen","disk":"qcow2"}', '{}'])(
    'counts %j as none',
    async (text) => {
      await withSandbox();
      await writeFile(join(dataDir, 'drivers.json'), text);
      expect(await record.settle(ANYTHING)).toEqual(ANYTHING);
    },
  );
});
