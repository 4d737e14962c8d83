import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { CommandError, type Exec } from '../../exec.js';
import { probeDmSnapshot } from './dm-snapshot-probe.js';

/** A kernel that does as it is told, but for one command. */
class Machine implements Exec {
  readonly ran: string[] = [];
  #loops = 0;
  constructor(private readonly failing?: { command: string; stderr: string }) {}

  async run(argv: readonly string[]): Promise<{ stdout: string; stderr: string }> {
    const line = argv.join(' ').replaceAll(/\S*torpor-dm-probe-\w+/g, 'DIR');
    const told = line.replaceAll(/probe-[0-9a-f]{8}/g, 'probe');
    this.ran.push(told);
    if (this.failing !== undefined && told.startsWith(this.failing.command)) {
      throw new CommandError(argv, { exitCode: 1, signal: null, stderr: this.failing.stderr, timedOut: false });
    }
    return { stdout: argv.includes('--show') ? `/dev/loop${this.#loops++}\n` : '', stderr: '' };
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('nothing is started in the background'));
  }
}

let present: string;
beforeEach(async () => {
  present = join(await mkdtemp(join(tmpdir(), 'dm-')), 'node');
  await writeFile(present, '');
});
afterEach(() => rm(join(present, '..'), { recursive: true }));

const probe = (machine: Machine, places = {}) =>
  probeDmSnapshot(machine, { deviceMapper: present, loop: present, ...places });

describe('the probe of dm-snapshot', () => {
  it('makes a snapshot as the driver does, and removes all of it, in reverse', async () => {
    const machine = new Machine();
    expect(await probe(machine)).toMatchObject({ usable: true });
    const nodes = '--noudevsync --noudevrules --verifyudev';
    expect(machine.ran).toEqual([
      'losetup --read-only --find --show DIR/origin',
      'losetup --find --show DIR/changes',
      `dmsetup create torpor-probe ${nodes} --table 0 2048 snapshot /dev/loop0 /dev/loop1 PO 8 1 discard_zeroes_cow`,
      `dmsetup remove torpor-probe --retry ${nodes}`,
      'losetup --detach /dev/loop1',
      'losetup --detach /dev/loop0',
    ]);
  });

  it('runs nothing on a kernel without device-mapper or loop devices, and says what loads them', async () => {
    const machine = new Machine();
    expect(await probe(machine, { deviceMapper: '/absent' })).toMatchObject({
      usable: false,
      reason: expect.stringContaining('device-mapper'),
      remedy: expect.stringContaining('modprobe -a dm_snapshot loop'),
    });
    expect(await probe(machine, { loop: '/absent' })).toMatchObject({ usable: false, reason: 'there is no /absent' });
    expect(machine.ran).toEqual([]);
  });

  it('takes back what it made before a command failed, and tells of the module that is missing', async () => {
    const stderr = 'device-mapper: reload ioctl on torpor-probe (253:0) failed: Invalid argument; unknown target type';
    const machine = new Machine({ command: 'dmsetup create', stderr });
    expect(await probe(machine)).toMatchObject({
      usable: false,
      reason: expect.stringContaining('unknown target type'),
      remedy: expect.stringContaining('dm_snapshot'),
    });
    expect(machine.ran.slice(-2)).toEqual(['losetup --detach /dev/loop1', 'losetup --detach /dev/loop0']);
  });

  it('is not usable where a snapshot cannot be removed again', async () => {
    const machine = new Machine({ command: 'dmsetup remove', stderr: 'Device or resource busy' });
    expect(await probe(machine)).toMatchObject({ usable: false, reason: expect.stringContaining('busy') });
  });
});
