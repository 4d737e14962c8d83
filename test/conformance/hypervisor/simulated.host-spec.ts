import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { HostPorts, VmSpec } from '../../../activities/host/ports.js';
import { runProgram } from '../../../api/exec/guest-process.js';
import { ConnectionRegistry } from '../../../host-worker/data-plane/connection-registry.js';
import { DataPlaneServer } from '../../../host-worker/data-plane/data-plane.server.js';
import { VmFolder } from '../../../host-worker/drivers/vmm/vm-folder.js';
import { findByArgument, killProcess } from '../../../host-worker/drivers/vmm/vm-process.js';
import { ensureSimulatedVmm } from '../../simulator/build.js';
import { SimulatedLab } from '../../simulator/simulated-lab.js';
import { doubledVmms, readLedger } from '../../simulator/vmm-ledger.js';
import { settledDifference, snapshotMachine } from '../../support/leak-check.js';
import { REAL_FILES } from '../harness-files.js';
import { guestOverHttp } from './guest-over-http.js';
import { describeHypervisorConformance } from './hypervisor.conformance.js';
import { describeHypervisorOnMachine } from './hypervisor-machine.conformance.js';

describeHypervisorConformance('simulated', async () => {
  const id = `sim${process.pid}`;
  const lab = await SimulatedLab.open('10.97.0.0/24');
  const spec = await lab.spec(id);
  return {
    hypervisor: lab.ports.hypervisor,
    id,
    spec,
    guest: guestOverHttp(spec.network.hostAddress),
    files: REAL_FILES,
    leastMemoryBytes: 1_000_000,
    restarted: async () => (await lab.restarted()).hypervisor,
    newPath: () => lab.newPath(),
    leftovers: () => lab.leftovers(id),
    dispose: () => lab.close(),
  };
});

describeHypervisorOnMachine('simulated', async () => {
  const id = `smm${process.pid}`;
  const lab = await SimulatedLab.open('10.97.2.0/24');
  const { dataDir, runDir, vmUser } = lab.config;
  return {
    hypervisor: lab.ports.hypervisor,
    recipe: {
      ...{ kind: 'simulated', dataDir, runDir, vmUser, boot: { kernel: '', initramfs: '', cmdline: '' } },
      ...{ binary: await ensureSimulatedVmm(), ledger: lab.ledger },
    },
    vm: async (index) => {
      const spec = await lab.spec(`${id}n${index}`);
      return { id: `${id}n${index}`, spec, guest: guestOverHttp(spec.network.hostAddress) };
    },
    socketOf: (vm) => new VmFolder(runDir, vm).control,
    newPath: () => lab.newPath(),
    leftovers: (vm) => lab.leftovers(vm),
    dispose: () => lab.close(),
  };
});

const TOKEN = 'a token of these tests';

describe('the simulated VMM', () => {
  const mark = `smx${process.pid}`;
  const [one, two] = [`${mark}a`, `${mark}b`];
  let lab: SimulatedLab;
  let ports: Omit<HostPorts, 'journal' | 'controlPlane'>;
  let spec: VmSpec;
  let before: Awaited<ReturnType<typeof snapshotMachine>>;

  beforeAll(async () => {
    before = await snapshotMachine({ directories: [] });
    lab = await SimulatedLab.open('10.97.1.0/24');
    ports = lab.ports;
    spec = await lab.spec(one);
  });

  /** Everything that these tests made on the machine has a name with one of these in it. */
  afterAll(async () => {
    await lab.close();
    const { dataDir, runDir } = lab.config;
    const { left } = await settledDifference(before, { directories: [dataDir, runDir] });
    const ours = [mark, lab.tag, dataDir, runDir];
    expect(left.filter(({ what }) => ours.some((name) => what.includes(name)))).toEqual([]);
    expect(await lab.leftovers(one)).toEqual([]);
  });

  async function run(address: string, command: string): Promise<string> {
    const { exitCode, output } = await ports.guest.run(address, TOKEN, command, 10_000);
    if (exitCode !== 0) throw new Error(`${command} ended with ${exitCode}: ${output}`);
    return output.trim();
  }

  async function bootAndInit(id: string, wiring: VmSpec, memoryFile?: string): Promise<void> {
    await ports.hypervisor.start(id, { ...wiring, ...(memoryFile === undefined ? {} : { memoryFile }) });
    const address = wiring.network.hostAddress;
    await ports.guest.waitReady(address, 5_000);
    await ports.guest.init(address, id, { accessToken: TOKEN, env: {}, templateId: 'minimal', user: 'user' });
  }

  const vmmsOf = (id: string) => findByArgument(join(lab.config.runDir, 'vms', id));
  const inject = (plan: object) => writeFile(lab.faults, JSON.stringify(plan));

  it('runs the programs of its guest through data plane and exec, for holders of the token only', async () => {
    await bootAndInit(one, spec);
    const consoleLog = (id: string, maxBytes: number) => ports.hypervisor.consoleLog(id, maxBytes);
    const connections = new ConnectionRegistry((id) => ports.network.find(id));
    const networkCounters = (id: string) => ports.network.counters(id);
    const options = { token: 'door', connections, consoleLog, networkCounters, log: { error: () => undefined } };
    const dataPlane = new DataPlaneServer(options);
    const url = await dataPlane.listen('127.0.0.1', 0);
    const door = { baseUrl: `${url}/sandboxes/${one}/ports/49983`, authorization: 'Bearer door' };
    const exec = async (command: string, token = TOKEN) => {
      const shell = ['/bin/sh', '-c', command] as const;
      const { exitCode, output } = await runProgram(door, token, {
        ...{ tag: `t-${command}`, argv: [...shell], cwd: undefined, env: {}, user: undefined, stdin: null },
        ...{ timeoutMs: 10_000, maxOutputBytes: 10_000 },
      });
      return [exitCode, output.encode().stdout];
    };
    const nonce = await run(spec.network.hostAddress, 'nonce');
    expect(nonce).toMatch(/^[0-9a-f]{32}$/);
    expect(await exec('nonce')).toEqual([0, `${nonce}\n`]);
    expect([await exec('count'), await exec('count')]).toEqual([
      [0, '1\n'],
      [0, '2\n'],
    ]);
    expect(await exec('true')).toEqual([0, '']);
    expect((await exec('uname -a'))[0]).toBe(127);
    await expect(exec('nonce', 'another')).rejects.toMatchObject({ code: 'guest_failed' });
    const outside = await fetch(`http://${spec.network.hostAddress}:49983/envs`, {
      headers: { 'x-access-token': TOKEN },
    });
    expect(await outside.json()).toMatchObject({ TORPOR_SANDBOX_ID: one });
    await dataPlane.close();
  });

  it('ticks while it runs and stands still, deaf, while it is frozen', async () => {
    const { hostAddress } = spec.network;
    const ticks = async () => Number(await run(hostAddress, 'ticks'));
    const first = await ticks();
    await ports.hypervisor.freeze(one);
    // Sent to a frozen guest and answered when it runs again, as by a real one.
    const asked = ticks();
    await expect(ports.guest.waitReady(hostAddress, 300)).rejects.toMatchObject({ code: 'guest_unavailable' });
    await ports.hypervisor.unfreeze(one);
    const second = await asked;
    // The kernel's own repetition of the first packet comes after a second, of which 300 ms at least were frozen.
    expect(second).toBeGreaterThan(first);
    const [asOfNow, began] = [await ticks(), performance.now()];
    while ((await ticks()) < asOfNow + 5) expect(performance.now() - began).toBeLessThan(5_000);
  });

  it('goes on twice from one saved memory, independently', async () => {
    const { hostAddress } = spec.network;
    const nonce = await run(hostAddress, 'nonce');
    const counted = Number(await run(hostAddress, 'count'));
    await ports.guest.quiesce(hostAddress);
    const ticksBefore = Number(await run(hostAddress, 'ticks'));
    await ports.hypervisor.freeze(one);
    const file = lab.newPath();
    await ports.hypervisor.save(one, file);
    await ports.hypervisor.kill(one);
    const other = await lab.spec(two);
    expect(other.network.hostAddress).not.toBe(hostAddress);
    await Promise.all([bootAndInit(one, spec, file), bootAndInit(two, other, file)]);
    for (const address of [hostAddress, other.network.hostAddress]) {
      expect(await run(address, 'nonce')).toBe(nonce);
      expect(Number(await run(address, 'ticks'))).toBeGreaterThanOrEqual(ticksBefore);
    }
    expect(await run(hostAddress, 'count')).toBe(`${counted + 1}`);
    expect(await run(hostAddress, 'count')).toBe(`${counted + 2}`);
    expect(await run(other.network.hostAddress, 'count')).toBe(`${counted + 1}`);
    const restored = (await readLedger(lab.ledger)).filter(({ restoredFrom }) => restoredFrom === file);
    expect(restored.map((entry) => `${entry.id} ${entry.nonce}`).toSorted((a, b) => a.localeCompare(b))).toEqual([
      `${one} ${nonce}`,
      `${two} ${nonce}`,
    ]);
    await ports.hypervisor.kill(two);
    await rm(file);
  });

  it('keeps what it wrote on its disk over a cold boot, unless that is rolled back', async () => {
    const { hostAddress } = spec.network;
    const nonce = await run(hostAddress, 'nonce');
    await run(hostAddress, 'write-disk first');
    await run(hostAddress, 'check-disk first');
    await expect(run(hostAddress, 'check-disk second')).rejects.toThrow(/verification failed/);
    await ports.hypervisor.kill(one);
    await ports.disk.detach(one);
    const disk = await ports.disk.attach(one);
    await bootAndInit(one, { ...spec, disk });
    expect(await run(hostAddress, 'nonce')).not.toBe(nonce);
    await run(hostAddress, 'check-disk first');
    await run(hostAddress, 'write-disk second');
    await run(hostAddress, 'check-disk second');
    await expect(ports.disk.rollback(one)).rejects.toThrow(/another process using the image/);
    await ports.hypervisor.kill(one);
    await ports.disk.rollback(one);
    await bootAndInit(one, spec);
    await run(hostAddress, 'check-disk first');
  });

  it('takes its disk and its tap for itself alone', async () => {
    const thief = { ...(await lab.spec(two)), disk: spec.disk };
    await expect(ports.hypervisor.start(two, thief)).rejects.toThrow(/failed to lock the disk.*another process has it/);
    const wired = { ...(await lab.spec(two)), network: spec.network };
    await expect(ports.hypervisor.start(two, wired)).rejects.toThrow(/could not configure .*tap0.*busy/);
    expect(await lab.leftovers(two)).toEqual([]);
    const doubled = doubledVmms((await readLedger(lab.ledger)).filter(({ id }) => id === two));
    expect(doubled).toEqual([
      expect.stringContaining('failed to lock the disk'),
      expect.stringContaining('could not configure'),
    ]);
  });

  it('shows in the ledger when two of one id live at once', async () => {
    // A worker that loses sight of a VM, and hands out another disk and network for the same id.
    await rm(join(lab.config.runDir, 'vms', one), { recursive: true });
    const [lost] = await vmmsOf(one);
    await ports.hypervisor.start(one, await lab.spec(two));
    expect(doubledVmms((await readLedger(lab.ledger)).filter(({ id }) => id === one))).toEqual([
      expect.stringContaining(`started while ${lost?.pid} lived`),
    ]);
    if (lost !== undefined) await killProcess(lost, 5_000);
    await ports.hypervisor.kill(one);
    await rm(lab.ledger);
  });

  it('removes a VM that a dead worker started but did not record', async () => {
    await bootAndInit(one, spec);
    await rm(join(lab.config.runDir, 'vms', one, 'vm.json'));
    expect(await ports.hypervisor.status(one)).toBe('absent');
    await (await lab.restarted()).hypervisor.kill(one);
    expect(await lab.leftovers(one)).toEqual([]);
  });

  it('ends when its guest powers off, and says so', async () => {
    await bootAndInit(one, spec);
    const nonce = await run(spec.network.hostAddress, 'nonce');
    await expect(run(spec.network.hostAddress, 'poweroff')).rejects.toMatchObject({
      code: expect.stringMatching(/^guest_/),
    });
    expect(await ports.hypervisor.status(one)).toBe('absent');
    expect((await readLedger(lab.ledger)).at(-1)).toMatchObject({ id: one, event: 'ended', how: 'poweroff', nonce });
    expect(await ports.hypervisor.consoleLog(one, 1000)).toContain('Power down');
  });

  it('takes the time it is told, can be interrupted in it, and is killed in it', async () => {
    const { hypervisor } = await lab.restarted({ bootMs: 400, saveMs: 60_000 });
    await hypervisor.start(one, spec);
    await expect(ports.guest.waitReady(spec.network.hostAddress, 150)).rejects.toMatchObject({
      code: 'guest_unavailable',
    });
    await ports.guest.waitReady(spec.network.hostAddress, 5_000);
    const [first, second] = [lab.newPath(), lab.newPath()];
    await hypervisor.freeze(one);
    const interrupted = hypervisor.save(one, first);
    interrupted.catch(() => undefined);
    while ((await REAL_FILES.size(first)) === 0);
    await ports.hypervisor.unfreeze(one);
    await expect(interrupted).rejects.toThrow(/cancelled/);
    await hypervisor.freeze(one);
    const killed = hypervisor.save(one, second);
    killed.catch(() => undefined);
    while ((await REAL_FILES.size(second)) === 0);
    await (await lab.restarted()).hypervisor.kill(one);
    await expect(killed).rejects.toThrow();
    expect(await lab.leftovers(one)).toEqual([]);
  });

  it('fails as the file of faults says', async () => {
    const { hypervisor } = ports;
    await inject({ start: { error: 'EMFILE' } });
    await expect(hypervisor.start(one, spec)).rejects.toMatchObject({ code: 'command_failed' });
    await inject({
      start: { error: 'timeout', when: 'after', once: lab.newPath() },
      '*': { ids: [two], error: 'EIO' },
    });
    await expect(hypervisor.start(one, spec)).rejects.toMatchObject({ code: 'timeout' });
    expect(await hypervisor.status(one)).toBe('running');
    await hypervisor.start(one, spec);
    await expect(hypervisor.status(two)).rejects.toMatchObject({ code: 'command_failed' });
    await inject({ save: { error: 'ENOSPC' }, freeze: { delayMs: 60_000 } });
    await expect(hypervisor.freeze(one, AbortSignal.timeout(50))).rejects.toThrow();
    await inject({ save: { error: 'ENOSPC' } });
    await hypervisor.freeze(one);
    await expect(hypervisor.save(one, lab.newPath())).rejects.toMatchObject({ code: 'disk_full' });
    await inject({ svae: { error: 'EIO' } });
    await expect(hypervisor.kill(one)).rejects.toThrow(/no such method or fault: svae/);
    await rm(lab.faults);
    await hypervisor.kill(one);
    expect(await readFile(lab.ledger, 'utf8')).toMatch(/\n$/);
    expect(doubledVmms(await readLedger(lab.ledger))).toEqual([]);
  });
});
