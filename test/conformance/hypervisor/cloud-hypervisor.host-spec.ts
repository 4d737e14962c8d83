import { appendFile, mkdir, readFile, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { VmSpec } from '../../../activities/host/ports.js';
import { ApiClient } from '../../../host-worker/drivers/cloud-hypervisor/api-client.js';
import { CloudHypervisor } from '../../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor.driver.js';
import { newVm } from '../../../host-worker/drivers/cloud-hypervisor/vm-config.js';
import { VmFolder } from '../../../host-worker/drivers/vmm/vm-folder.js';
import { findByArgument } from '../../../host-worker/drivers/vmm/vm-process.js';
import { CLOUD_HYPERVISOR } from '../../lab/lab-environment.js';
import { describeWhen } from '../../support/needs.js';
import { allowOnDemand, findCloudHypervisor, openCloudHypervisorLab } from './cloud-hypervisor-lab.js';
import { guestOverHttp } from './guest-over-http.js';
import { describeHypervisorOnMachine } from './hypervisor-machine.conformance.js';
import { type GuestView, describeHypervisorConformance } from './hypervisor.conformance.js';
import { savedInDirectories } from './saved-memory-files.js';
import { VM_USER } from './hypervisor-lab.js';

const PATIENCE_MS = 900_000;
const binary = await findCloudHypervisor();
const NEED = `${CLOUD_HYPERVISOR}, root, and /dev/kvm open to its group`;
const MEMORY = 'memory-ranges';

type Lab = Awaited<ReturnType<typeof openCloudHypervisorLab>>;

describeWhen(binary !== undefined, NEED, 'cloud-hypervisor', () => {
  let forbidOnDemand: () => Promise<void>;
  beforeAll(async () => {
    forbidOnDemand = await allowOnDemand();
  });
  afterAll(() => forbidOnDemand());

  const open = (id: string, options = {}): Promise<Lab> => openCloudHypervisorLab(id, binary ?? '', options);

  describeHypervisorConformance('cloud-hypervisor', async () => {
    const lab = await open(`cv${process.pid}`);
    return { ...(await lab.harness(128)), savedMemory: savedInDirectories(MEMORY) };
  });

  describeHypervisorOnMachine('cloud-hypervisor', async () => {
    const lab = await open(`cm${process.pid}`);
    const { dir, runDir, images } = lab;
    return {
      hypervisor: await lab.hypervisor(),
      recipe: {
        ...{ kind: 'cloud-hypervisor', dataDir: dir, runDir, boot: images.boot },
        ...{ vmUser: VM_USER, binary: binary ?? '' },
      },
      vm: (index) => lab.vm(index, 128),
      socketOf: (id) => new VmFolder(runDir, id, 'cloud-hypervisor').control,
      newPath: () => lab.newPath(),
      leftovers: (id) => lab.leftovers(id),
      dispose: () => lab.close(),
    };
  });

  describe('cloud-hypervisor beyond the port', () => {
    let lab: Lab;
    let hypervisor: CloudHypervisor;
    let spec: VmSpec;
    let guest: GuestView;
    let saved: string;
    beforeAll(async () => {
      lab = await open(`cb${process.pid}`);
      hypervisor = await lab.hypervisor();
      // As production disks are: no format that the VMM would have to understand.
      spec = await lab.rawSpec(128);
      guest = guestOverHttp(spec.network.hostAddress);
    }, PATIENCE_MS);
    afterAll(async () => {
      for (const id of await hypervisor.list()) await hypervisor.kill(id);
      await lab.close();
    }, PATIENCE_MS);

    async function onlyProcess(id = lab.id): Promise<number> {
      const found = await findByArgument(new VmFolder(lab.runDir, id, 'cloud-hypervisor').control);
      expect(found).toHaveLength(1);
      return found[0]?.pid ?? -1;
    }

    it(
      'runs without any privilege, behind seccomp, in its own session, namespace and group',
      async () => {
        await hypervisor.start(lab.id, spec);
        const pid = await onlyProcess();
        const lines = (await readFile(`/proc/${pid}/status`, 'utf8')).split('\n');
        const status = Object.fromEntries(lines.map((line) => line.split(/:\s+/) as [string, string]));
        const [, , uid, gid] = (await lab.exec.run(['getent', 'passwd', VM_USER])).stdout.split(':');
        expect(status).toMatchObject({ Uid: [uid, uid, uid, uid].join('\t'), Gid: [gid, gid, gid, gid].join('\t') });
        for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapInh', 'CapAmb']) expect(status[set]).toMatch(/^0+$/);
        expect(status).toMatchObject({ NoNewPrivs: '1' });
        // Each thread has the filter of what it does; the first one only waits for the others.
        const unfiltered: string[] = [];
        for (const task of await readdir(`/proc/${pid}/task`)) {
          const thread = await readFile(`/proc/${pid}/task/${task}/status`, 'utf8');
          if (!/^Seccomp:\s+2$/m.test(thread)) unfiltered.push(task);
        }
        expect(unfiltered).toEqual([String(pid)]);
        const session = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ')[3];
        expect(Number(session)).toBe(pid);
        const namespace = await stat(`/run/netns/${spec.network.namespace}`);
        expect((await stat(`/proc/${pid}/ns/net`)).ino).toBe(namespace.ino);
      },
      PATIENCE_MS,
    );

    it(
      'says of itself what the types of its client claim',
      async () => {
        await guest.awake();
        const info = await hypervisor.info(lab.id);
        const surroundings = { boot: lab.images.boot, workspace: '', landlock: info.config.landlock_enable };
        const { landlock_rules: _, ...expected } = newVm(spec, surroundings);
        expect(info).toMatchObject({ state: 'Running', memory_actual_size: 128 * 1024 * 1024, config: expected });
        const ping = await new ApiClient(new VmFolder(lab.runDir, lab.id, 'cloud-hypervisor').control).ping();
        expect(ping).toMatchObject({ pid: await onlyProcess(), version: hypervisor.identity.version });
        expect(Array.isArray(ping.features)).toBe(true);
        const counters = await hypervisor.counters(lab.id);
        const bytes = Object.values(counters).flatMap((device) => [device['read_bytes'], device['rx_bytes']]);
        expect(bytes.filter((value) => typeof value === 'number' && value > 0).length).toBeGreaterThanOrEqual(1);
      },
      PATIENCE_MS,
    );

    it(
      'takes memory from a guest that has some to spare, and gives it back',
      async () => {
        const whole = (await hypervisor.info(lab.id)).memory_actual_size;
        const taken = 16 * 1024 * 1024;
        await hypervisor.balloon(lab.id, taken);
        await until(async () => (await hypervisor.info(lab.id)).memory_actual_size === whole - taken);
        await hypervisor.balloon(lab.id, 0);
        await until(async () => (await hypervisor.info(lab.id)).memory_actual_size === whole);
      },
      PATIENCE_MS,
    );

    it(
      'saves only the pages that are in use',
      async () => {
        await guest.awake();
        await guest.remember('of the first');
        await hypervisor.freeze(lab.id);
        saved = lab.newPath();
        await hypervisor.save(lab.id, saved);
        await hypervisor.kill(lab.id);
        const { size, blocks } = await stat(join(saved, MEMORY));
        expect(size).toBe(128 * 1024 * 1024);
        expect(blocks * 512).toBeLessThan(0.9 * size);
      },
      PATIENCE_MS,
    );

    it(
      'goes on as another sandbox, of which the first learns nothing, and waits with a save until it is whole',
      async () => {
        const other = await lab.vm(1, 128);
        const disk = { ...spec.disk, path: lab.newPath() };
        await lab.exec.run(['cp', '--sparse=always', spec.disk.path, disk.path], { timeoutMs: PATIENCE_MS });
        const otherGuest = guestOverHttp(other.spec.network.hostAddress);
        lab.warnings.length = 0;
        await hypervisor.start(other.id, { ...other.spec, disk, memoryFile: saved });
        await hypervisor.freeze(other.id);
        const { config } = await hypervisor.info(other.id);
        expect(JSON.stringify(config)).not.toContain(lab.id);
        expect(config.disks[0]?.path).toBe(disk.path);
        const again = lab.newPath();
        await hypervisor.save(other.id, again);
        // Either the wait is seen, or there was nothing left to wait for.
        const waits = lab.warnings.filter(({ message }) => message.includes('the save waits'));
        const ends = lab.warnings.filter(({ message }) => message.includes('the save goes on'));
        expect(ends).toHaveLength(waits.length);
        expect(JSON.stringify(JSON.parse(await readFile(join(again, 'config.json'), 'utf8')))).not.toContain(lab.id);
        await hypervisor.unfreeze(other.id);
        await otherGuest.awake();
        expect(await otherGuest.remembered()).toBe('of the first');
        const { size, blocks } = await stat(join(again, MEMORY));
        expect(blocks * 512).toBeLessThan(0.9 * size);
        await hypervisor.kill(other.id);
        expect(await lab.leftovers(other.id)).toEqual([]);
      },
      PATIENCE_MS,
    );

    it(
      'restores eagerly where that is asked for, and needs the memory no more',
      async () => {
        const eager = await CloudHypervisor.open({
          ...{ exec: lab.exec, dataDir: lab.dir, runDir: lab.runDir, boot: lab.images.boot, vmUser: VM_USER },
          ...{ binary: binary ?? '', eager: true },
        });
        await eager.start(lab.id, { ...spec, memoryFile: saved });
        const held = (await lab.exec.run(['find', `/proc/${await onlyProcess()}/fd`, '-lname', `*${MEMORY}*`])).stdout;
        expect(held).toBe('');
        await guest.awake();
        expect(await guest.remembered()).toBe('of the first');
        await hypervisor.kill(lab.id);
      },
      PATIENCE_MS,
    );

    it(
      'refuses saved memory of another shape, and of which a part is broken',
      async () => {
        const refused = { code: 'snapshot_corrupt', message: expect.stringContaining(saved) };
        await expect(hypervisor.start(lab.id, { ...spec, memoryMb: 160, memoryFile: saved })).rejects.toMatchObject(
          refused,
        );
        for (const part of ['config.json', 'state.json']) {
          const broken = lab.newPath();
          await lab.exec.run(['cp', '-r', '--sparse=always', saved, broken]);
          await truncate(join(broken, part), 100);
          await expect(hypervisor.start(lab.id, { ...spec, memoryFile: broken })).rejects.toMatchObject({
            code: 'snapshot_corrupt',
            message: expect.stringContaining(broken),
          });
          expect(await lab.leftovers()).toEqual([]);
        }
      },
      PATIENCE_MS,
    );

    it(
      'keeps what a guest prints, and ends one that resets itself rather than have another one in its place',
      async () => {
        const talkative = { ...lab.images.boot, cmdline: 'console=ttyS0' };
        const verbose = await lab.hypervisor(lab.exec, talkative);
        await verbose.start(lab.id, spec);
        const pid = await onlyProcess();
        await until(async () => (await hypervisor.consoleLog(lab.id, 100_000)).includes('Linux version'));
        // The guest tells the VMM of a reset; the API has a call that does the same.
        await resetOverApi(new VmFolder(lab.runDir, lab.id, 'cloud-hypervisor').control, lab);
        await until(async () => (await findByArgument(lab.runDir)).every((found) => found.pid !== pid));
        expect(await hypervisor.status(lab.id)).toBe('absent');
        expect(lab.warnings.map(({ message }) => message)).toContain('the guest was reset; its VM is ended');
        await hypervisor.kill(lab.id);
        expect(await lab.leftovers()).toEqual([]);
        expect(await hypervisor.consoleLog(lab.id, 100_000)).toContain('Linux version');
      },
      PATIENCE_MS,
    );

    it('cuts a console that a guest keeps filling', async () => {
      const log = join(lab.dir, 'sandboxes', lab.id, 'console.log');
      await appendFile(log, Buffer.alloc(6_000_000, 'x'));
      await appendFile(log, 'the end');
      await hypervisor.trimConsoles();
      expect((await stat(log)).size).toBeLessThan(300_000);
      expect(await hypervisor.consoleLog(lab.id, 7)).toBe('the end');
    });

    it('refuses a version that is too old, and says which one is needed', async () => {
      const old = join(lab.newPath(), 'cloud-hypervisor');
      await mkdir(join(old, '..'));
      await writeFile(old, '#!/bin/sh\necho cloud-hypervisor v51.1.0\n', { mode: 0o755 });
      const options = { exec: lab.exec, dataDir: lab.dir, runDir: lab.runDir, boot: lab.images.boot, vmUser: VM_USER };
      await expect(CloudHypervisor.open({ ...options, binary: old })).rejects.toMatchObject({
        code: 'unsupported',
        message: expect.stringMatching(/is version 51\.1\.0, but version 52\.0 or newer is needed/),
      });
    });
  });
});

async function resetOverApi(socket: string, { exec }: Lab): Promise<void> {
  const request = 'PUT /api/v1/vm.reboot HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n';
  const program = `const s=require('net').connect(${JSON.stringify(socket)});s.on('data',()=>process.exit(0));s.on('error',()=>process.exit(0));s.write("${request}")`;
  await exec.run([process.execPath, '-e', program], { timeoutMs: PATIENCE_MS });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 300_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('it did not happen within five minutes');
    await delay(20);
  }
}
