import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHostActivities } from '../../../activities/host/host-activities.js';
import type { HostPorts, VmSpec } from '../../../activities/host/ports.js';
import { EnvdGuest } from '../../../host-worker/drivers/envd/envd-guest.driver.js';
import type { QemuHypervisor } from '../../../host-worker/drivers/qemu/qemu-hypervisor.driver.js';
import { findByArgument } from '../../../host-worker/drivers/vmm/vm-process.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { FileJournal } from '../../../host-worker/journal.js';
import { FileSnapshotStore } from '../../../host-worker/snapshot-store.js';
import { FakeHost } from '../../support/fake-host-ports.js';
import { guestOverHttp } from './guest-over-http.js';
import type { HypervisorLab } from './hypervisor-lab.js';
import { openQemuLab } from './qemu-lab.js';

/** With real processes, disks and mounts: what the machine does to a VM, and what is left of it after that. */
describe('a machine that refuses', () => {
  let lab: HypervisorLab<QemuHypervisor>;
  let hypervisor: QemuHypervisor;
  let spec: VmSpec;
  beforeAll(async () => {
    lab = await openQemuLab(`qf${process.pid}`);
    hypervisor = await lab.hypervisor();
    spec = await lab.spec(256);
  });
  afterAll(async () => {
    await hypervisor.kill(lab.id);
    await lab.close();
  });

  const folder = (): string => join(lab.runDir, 'vms', lab.id);

  it('memory: says so, with the command to look with, and leaves nothing', async () => {
    await expect(hypervisor.start(lab.id, { ...spec, memoryMb: 64_000_000 })).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/did not start: .*(allocate|set up guest) memory.*out of memory; see `free -m`/is),
    });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('the hypervisor itself: names the package, and leaves nothing', async () => {
    // The tools are on the path that this worker was started with, QEMU is not any more.
    const only = await lab.directoryOf(['nsenter', 'setpriv', 'getent']);
    const crippled = await lab.hypervisor(new ChildProcessExec(only));
    await expect(crippled.start(lab.id, spec)).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/qemu-system-\S+: No such file.*install it: apt-get install qemu-system/s),
    });
    expect(await lab.leftovers()).toEqual([]);
  });

  it.each([
    ['is no disk at all', async () => writeFile(spec.disk.path, 'x'.repeat(100_000))],
    ['is cut off in its tables', async () => writeFile(spec.disk.path, Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'))],
  ])('a disk that %s: names it with the command to look with, and leaves nothing', async (_, damage) => {
    const kept = `${spec.disk.path}.kept`;
    await rename(spec.disk.path, kept);
    try {
      await damage();
      await expect(hypervisor.start(lab.id, spec)).rejects.toMatchObject({
        code: 'command_failed',
        message: expect.stringContaining(`qemu-img check ${spec.disk.path}`),
      });
      await expect(lab.disk.attach(lab.id)).rejects.toThrow(/qemu-img (check|info)/);
      expect(await lab.leftovers()).toEqual([]);
    } finally {
      await rename(kept, spec.disk.path);
    }
  });

  it('space for the memory of a guest: the pause fails, and the sandbox runs and is of use', async () => {
    const fake = new FakeHost();
    const snapshots = new FileSnapshotStore({ dataDir: lab.dir, hypervisor: hypervisor.identity });
    const journal = await FileJournal.open(join(lab.dir, 'journal'), 'host', { warn: () => {} });
    const real = { hypervisor, snapshots, journal, network: lab.network, disk: lab.disk, guest: new EnvdGuest() };
    const ports: HostPorts = { ...fake.ports, ...real };
    const steps = createHostActivities(ports);
    const op = { sandboxId: lab.id, epoch: 1, opId: 'create' };
    const shape = { vcpus: spec.vcpus, memoryMb: spec.memoryMb };
    await steps.startVm({ ...op, ...shape, boot: { kind: 'cold' } });
    // Without a token, which the agent would ask of this test as well.
    const guest = guestOverHttp(spec.network.hostAddress);
    await guest.awake();
    await guest.remember('before the pause');

    const directory = join(lab.dir, 'sandboxes', lab.id, 'snapshots');
    await mkdir(directory, { recursive: true });
    await lab.exec.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'small', directory]);
    const pause = { sandboxId: lab.id, epoch: 2, opId: 'pause' };
    try {
      await steps.quiesceGuest(pause);
      await expect(steps.snapshotVm({ ...pause, generation: 2 })).rejects.toMatchObject({
        code: 'disk_full',
        message: expect.stringMatching(/no space left while .*; see `df -h` on the host/),
      });
      // At once, not only when the operation is undone.
      expect(await hypervisor.status(lab.id)).toBe('running');
      expect(await readdir(directory)).toEqual([]);
      await steps.unfreezeVm(pause);
      await steps.deleteSnapshot({ ...pause, generation: 2 });
      await steps.unquiesceGuest({ ...pause, last: true });
      expect(await guest.remembered()).toBe('before the pause');
      await guest.remember('after the pause failed');
      const [one, other] = [await guest.uptime(), await guest.uptime()];
      expect(other).toBeGreaterThanOrEqual(one);
    } finally {
      await lab.exec.run(['umount', directory]);
    }

    const again = { sandboxId: lab.id, epoch: 3, opId: 'pause-again' };
    await steps.quiesceGuest(again);
    const { memoryBytes } = await steps.snapshotVm({ ...again, generation: 3 });
    expect(memoryBytes).toBeGreaterThan(4 * 1024 * 1024);
    await steps.killVm(again);
    await steps.startVm({ ...again, epoch: 4, ...shape, boot: { kind: 'snapshot', generation: 3 } });
    await guest.awake();
    expect(await guest.remembered()).toBe('after the pause failed');
    await steps.killVm({ ...again, epoch: 4, last: true });
    await snapshots.delete(lab.id, 3);
  }, 120_000);

  it('is found again by its process when somebody deleted its run files', async () => {
    await hypervisor.start(lab.id, spec);
    await rm(folder(), { recursive: true });
    expect(await hypervisor.list()).toEqual([lab.id]);
    expect(await hypervisor.status(lab.id)).toBe('absent');
    await (await lab.hypervisor()).kill(lab.id);
    expect(await findByArgument(folder())).toEqual([]);
    expect(await hypervisor.list()).toEqual([]);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('is ended by its process when what says its pid cannot be read', async () => {
    await hypervisor.start(lab.id, spec);
    await writeFile(join(folder(), 'vm.json'), '{"process":');
    await expect(hypervisor.status(lab.id)).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/vm\.json, .* cannot be read; see `pgrep -fa/),
    });
    await hypervisor.kill(lab.id);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('is not taken for a VM whose sockets it answers on', async () => {
    await hypervisor.start(lab.id, spec);
    const other = join(lab.runDir, 'vms', 'another');
    await lab.exec.run(['cp', '-a', folder(), other]);
    // A copy of a socket is none; the way to the living one is a link.
    await rm(join(other, 'qemu'), { recursive: true });
    await lab.exec.run(['ln', '-s', join(folder(), 'qemu'), join(other, 'qemu')]);
    await expect(hypervisor.status('another')).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringContaining(`says that it is torpor-${lab.id}`),
    });
    expect(await hypervisor.status(lab.id)).toBe('running');
    await rm(other, { recursive: true });
    await hypervisor.kill(lab.id);
  });

  it('leaves no control group behind that a dead worker has left', async () => {
    const groups = ['', '/memory', '/pids'].map((hierarchy) => `/sys/fs/cgroup${hierarchy}/torpor`);
    const planted: string[] = [];
    for (const group of groups) {
      const made = await mkdir(join(group, lab.id)).then(
        () => true,
        () => false,
      );
      if (made) planted.push(join(group, lab.id));
    }
    expect(planted).not.toEqual([]);
    await hypervisor.kill(lab.id);
    for (const path of planted) await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
