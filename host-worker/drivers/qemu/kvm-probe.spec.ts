import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { CommandError, type Exec } from '../../exec.js';
import { knownKvm } from './known-kvm.js';
import { probeKvm } from './kvm-probe.js';

const guest = { vmm: 'QEMU', argv: ['qemu-system-x86_64', '-accel', 'kvm'] };
const ALIVE = 'torpor-initramfs: cannot mount /dev/vda\n';

type Booted = 'alive' | 'silent' | 'hangs' | 'breaks';

/** Whoever may open the device, and what becomes of a guest there. */
class Machine implements Exec {
  /** What was run, by its last word on the matter: `test` or `boot`, and as whom. */
  readonly ran: string[] = [];
  constructor(
    public vmUserMayOpen: boolean,
    public guest: Booted,
  ) {}

  async run(argv: readonly string[]): Promise<{ stdout: string; stderr: string }> {
    const fails = (exitCode: number | null, stderr: string, timedOut = false) =>
      new CommandError(argv, { exitCode, signal: null, stderr, timedOut });
    if (argv[0] === 'getent') return { stdout: 'torpor-vm:x:999:995::/:/usr/sbin/nologin\n', stderr: '' };
    const who = argv[0] === 'setpriv' ? 'user' : 'root';
    if (argv.includes('test')) {
      this.ran.push(`test ${who}`);
      if (!this.vmUserMayOpen) throw fails(1, '');
      return { stdout: '', stderr: '' };
    }
    this.ran.push(`boot ${who}`);
    if (this.guest === 'hangs') throw fails(null, '', true);
    if (this.guest === 'breaks') throw fails(1, 'qemu: failed to initialize kvm: Device or resource busy');
    return { stdout: this.guest === 'alive' ? ALIVE : 'panic\n', stderr: '' };
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('nothing is started in the background'));
  }
}

let runDir: string;
let device: string;
beforeEach(async () => {
  runDir = await mkdtemp(join(tmpdir(), 'kvm-'));
  device = join(runDir, 'kvm');
  await writeFile(device, '');
});
afterEach(() => rm(runDir, { recursive: true }));

const probed = (machine: Machine) => probeKvm(machine, guest, { vmUser: 'torpor-vm', device, deadlineMs: 10_000 });
const known = (machine: Machine, over: { vmmVersion?: string } = {}) =>
  knownKvm(machine, guest, { vmUser: 'torpor-vm', device, runDir, vmmVersion: 'QEMU 7.2', ...over });

describe('a probe of KVM', () => {
  it('says that there is no device, without starting anything', async () => {
    await rm(device);
    const machine = new Machine(true, 'alive');
    expect(await probed(machine)).toMatchObject({ usable: false, reason: expect.stringContaining('there is no') });
    expect(machine.ran).toEqual([]);
  });

  it('boots a guest as the user of VMs', async () => {
    const machine = new Machine(true, 'alive');
    expect(await probed(machine)).toMatchObject({ usable: true });
    expect(machine.ran).toEqual(['test user', 'boot user']);
  });

  it('tells what would give that user access, where a guest boots as root', async () => {
    const machine = new Machine(false, 'alive');
    const found = await probed(machine);
    expect(found).toMatchObject({
      usable: false,
      reason: expect.stringMatching(/^it works as root, but torpor-vm may not open/),
      remedy: expect.stringMatching(/^give torpor-vm access: .*chgrp kvm .*usermod -aG kvm torpor-vm$/),
    });
    expect(machine.ran).toEqual(['test user', 'boot root']);
  });

  it.each([
    ['hangs', /opens, but a test guest did not reach its first program in 10 s: unusable$/],
    ['silent', /ended under KVM before its first program ran: panic$/],
    ['breaks', /^QEMU could not run a test guest under KVM: .*Device or resource busy$/],
  ] as const)('of a device whose guest %s does not send anybody to give access to it', async (guest, reason) => {
    for (const mayOpen of [false, true]) {
      const found = await probed(new Machine(mayOpen, guest));
      expect(found).toMatchObject({ usable: false, reason: expect.stringMatching(reason) });
      expect(found.remedy).toBeUndefined();
    }
  });
});

describe('what a worker knows of KVM', () => {
  it('takes no boot where its user has no access, and says where to learn more', async () => {
    const machine = new Machine(false, 'hangs');
    expect(await known(machine)).toMatchObject({
      usable: false,
      reason: expect.stringMatching(/torpor-vm may not open .*`torpor doctor`/),
    });
    expect(machine.ran).toEqual(['test user']);
  });

  it.each(['alive', 'hangs'] as const)('is kept until the next boot of the machine: a guest that %s', async (guest) => {
    const first = await known(new Machine(true, guest));
    const later = new Machine(true, 'silent');
    expect(await known(later)).toMatchObject({ usable: first.usable, reason: expect.stringContaining(first.reason) });
    expect(later.ran).toEqual(['test user']);
  });

  it('is not kept where another attempt may find something else', async () => {
    await known(new Machine(true, 'breaks'));
    expect(await known(new Machine(true, 'alive'))).toMatchObject({ usable: true });
  });

  it('is found out again when QEMU, the device or the file of the finding has changed', async () => {
    await known(new Machine(true, 'hangs'));
    const alive = () => new Machine(true, 'alive');
    expect(await known(alive(), { vmmVersion: 'QEMU 10' })).toMatchObject({ usable: true });
    await known(new Machine(true, 'hangs'));
    await chmod(device, 0o600);
    expect(await known(alive())).toMatchObject({ usable: true });
    await writeFile(join(runDir, 'kvm-probe.json'), '{"of":');
    expect(await known(new Machine(true, 'hangs'))).toMatchObject({ usable: false });
  });

  it('stands back when the user loses access', async () => {
    await known(new Machine(true, 'alive'));
    expect(await known(new Machine(false, 'alive'))).toMatchObject({ usable: false });
  });
});
