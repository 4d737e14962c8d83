import { appendFile, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { VmSpec } from '../../../activities/host/ports.js';
import { probeArguments, probeKvm, qemuTestGuest } from '../../../host-worker/drivers/qemu/kvm-probe.js';
import {
  type QemuHypervisor,
  QemuHypervisor as Qemu,
} from '../../../host-worker/drivers/qemu/qemu-hypervisor.driver.js';
import { VmFolder } from '../../../host-worker/drivers/vmm/vm-folder.js';
import { findByArgument } from '../../../host-worker/drivers/vmm/vm-process.js';
import { describeHypervisorConformance } from './hypervisor.conformance.js';
import { type HypervisorLab, VM_USER } from './hypervisor-lab.js';
import { describeHypervisorOnMachine } from './hypervisor-machine.conformance.js';
import { openQemuLab } from './qemu-lab.js';

describeHypervisorConformance('qemu', async () => (await openQemuLab(`hv${process.pid}`)).harness());

describeHypervisorOnMachine('qemu', async () => {
  const lab = await openQemuLab(`hm${process.pid}`);
  const { dir, runDir, images } = lab;
  return {
    hypervisor: await lab.hypervisor(),
    recipe: { kind: 'qemu', dataDir: dir, runDir, boot: images.boot, vmUser: VM_USER },
    vm: (index) => lab.vm(index, 192),
    socketOf: (id) => new VmFolder(runDir, id).control,
    newPath: () => lab.newPath(),
    leftovers: (id) => lab.leftovers(id),
    dispose: () => lab.close(),
  };
});

describe('qemu beyond the port', () => {
  let lab: HypervisorLab<QemuHypervisor>;
  let hypervisor: QemuHypervisor;
  let spec: VmSpec;
  beforeAll(async () => {
    lab = await openQemuLab(`qe${process.pid}`);
    hypervisor = await lab.hypervisor();
    spec = await lab.spec(128);
  });
  afterAll(async () => {
    await hypervisor.kill(lab.id);
    await lab.close();
  });

  const recordPath = (): string => join(lab.runDir, 'vms', lab.id, 'vm.json');
  async function onlyProcess(): Promise<number> {
    const found = await findByArgument(join(lab.runDir, 'vms', lab.id));
    expect(found).toHaveLength(1);
    return found[0]?.pid ?? -1;
  }

  it('runs without any privilege, behind seccomp, in its own session, namespace and group', async () => {
    await hypervisor.start(lab.id, spec);
    const pid = await onlyProcess();
    const status = Object.fromEntries(
      (await readFile(`/proc/${pid}/status`, 'utf8')).split('\n').map((line) => line.split(/:\s+/) as [string, string]),
    );
    const { uid, gid } = await owner(lab);
    expect(status).toMatchObject({ Uid: [uid, uid, uid, uid].join('\t'), Gid: [gid, gid, gid, gid].join('\t') });
    expect(status).toMatchObject({ NoNewPrivs: '1', Seccomp: '2' });
    for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapInh', 'CapAmb']) expect(status[set]).toMatch(/^0+$/);
    const session = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ')[3];
    expect(Number(session)).toBe(pid);
    const namespace = await stat(`/run/netns/${spec.network.namespace}`);
    expect((await stat(`/proc/${pid}/ns/net`)).ino).toBe(namespace.ino);
  });

  it('removes a VM that a dead worker started but did not record', async () => {
    const pid = await onlyProcess();
    await rm(recordPath());
    expect(await hypervisor.status(lab.id)).toBe('absent');
    expect(await hypervisor.list()).toContain(lab.id);
    await (await lab.hypervisor()).kill(lab.id);
    await expect(stat(`/proc/${pid}`)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('replaces a half-started VM and one whose process died', async () => {
    await hypervisor.start(lab.id, spec);
    const first = await onlyProcess();
    const record = JSON.parse(await readFile(recordPath(), 'utf8')) as Record<string, unknown>;
    await replaceRecord(recordPath(), { ...record, started: false });
    expect(await hypervisor.status(lab.id)).toBe('absent');
    await hypervisor.start(lab.id, spec);
    const second = await onlyProcess();
    expect(second).not.toBe(first);
    process.kill(second, 'SIGKILL');
    await gone(second);
    expect(await hypervisor.status(lab.id)).toBe('absent');
    await hypervisor.start(lab.id, spec);
    expect(await hypervisor.status(lab.id)).toBe('running');
    await hypervisor.kill(lab.id);
  }, 60_000);

  it('does not kill a process that got the number of a dead VM', async () => {
    await hypervisor.start(lab.id, spec);
    const record = JSON.parse(await readFile(recordPath(), 'utf8')) as { process: Record<string, unknown> };
    const pid = await onlyProcess();
    process.kill(pid, 'SIGKILL');
    await gone(pid);
    await replaceRecord(recordPath(), { ...record, process: { ...record.process, pid: process.pid } });
    await hypervisor.kill(lab.id);
    expect(await hypervisor.list()).not.toContain(lab.id);
  });

  it('cuts a console that a guest keeps filling', async () => {
    const log = join(lab.dir, 'sandboxes', lab.id, 'console.log');
    await appendFile(log, Buffer.alloc(6_000_000, 'x'));
    await appendFile(log, 'the end');
    await hypervisor.trimConsoles();
    expect((await stat(log)).size).toBeLessThan(300_000);
    expect(await hypervisor.consoleLog(lab.id, 7)).toBe('the end');
  });

  it('says which directory its user cannot enter', async () => {
    const { exec, images } = lab;
    const boot = { ...images.boot, kernel: '/root/no-entry/vmlinux' };
    const options = { exec, dataDir: lab.dir, runDir: lab.runDir, boot, accel: 'tcg' as const, vmUser: 'nobody' };
    const closed = await Qemu.open(options);
    await expect(closed.start(lab.id, spec)).rejects.toThrow(/cannot enter \/root|is missing/);
    await expect(Qemu.open({ ...options, vmUser: 'no-such-user' })).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining('useradd'),
    });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('believes in KVM only when a guest has booted, and can tell one that has', async () => {
    // Nothing to run in it: however well KVM works, this guest cannot reach a first program.
    const initramfs = lab.newPath();
    await appendFile(initramfs, '');
    const probed = await probeKvm(lab.exec, await qemuTestGuest({ ...lab.images.boot, initramfs }), {
      deadlineMs: 5_000,
    });
    expect(probed).toMatchObject({ usable: false, reason: expect.stringMatching(/KVM|kvm/) });
    // The same guest by emulation prints what the probe waits for, so a `false` is not for want of the message.
    const { stdout } = await lab.exec.run(probeArguments('tcg', 'max', lab.images.boot), { timeoutMs: 60_000 });
    expect(stdout).toContain('torpor-initramfs: cannot mount');
  }, 90_000);
});

async function owner(lab: HypervisorLab<QemuHypervisor>): Promise<{ uid: string; gid: string }> {
  const fields = (await lab.exec.run(['getent', 'passwd', 'nobody'])).stdout.split(':');
  return { uid: fields[2] ?? '', gid: fields[3] ?? '' };
}

async function replaceRecord(path: string, record: unknown): Promise<void> {
  await rm(path);
  await appendFile(path, JSON.stringify(record));
}

async function gone(pid: number): Promise<void> {
  for (let attempt = 0; attempt < 10_000; attempt += 1) {
    const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
    if (state === undefined || state.includes(') Z ')) return;
  }
  throw new Error(`process ${pid} does not end`);
}
