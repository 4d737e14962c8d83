import { mkdir, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Hypervisor, VmSpec } from '../../../activities/host/ports.js';
import { identify, killProcess } from '../../../host-worker/drivers/vmm/vm-process.js';
import { ChildProcessExec, CommandError } from '../../../host-worker/exec.js';
import { measureMemory } from '../../../host-worker/saved-memory.js';
import { ROOT } from '../../support/root.js';
import type { GuestView } from './hypervisor.conformance.js';
import type { DriverRecipe, LastWords } from './worker-that-dies.js';

const PATIENCE_MS = 900_000;
const HERE = import.meta.url;

/** A driver of processes on a real machine. */
export interface HypervisorMachine {
  hypervisor: Hypervisor;
  recipe: DriverRecipe;
  /** VMs of their own, as many as asked for. */
  vm(index: number): Promise<{ id: string; spec: VmSpec; guest: GuestView }>;
  /** The socket on which the VM of this id takes commands. */
  socketOf(id: string): string;
  newPath(): string;
  leftovers(id: string): Promise<string[]>;
  dispose(): Promise<void>;
}

/**
 * What every driver of `Hypervisor` that starts processes must pass beside the suite of the port: workers that die in
 * the middle of a call, machines that are full, and leftovers that are not ours.
 */
export function describeHypervisorOnMachine(name: string, make: () => Promise<HypervisorMachine>): void {
  describe(`Hypervisor on a machine: ${name}`, () => {
    const exec = new ChildProcessExec();
    let machine: HypervisorMachine;
    let hypervisor: Hypervisor;
    let id: string;
    let spec: VmSpec;
    let guest: GuestView;

    beforeAll(async () => {
      machine = await make();
      ({ hypervisor } = machine);
      ({ id, spec, guest } = await machine.vm(0));
    }, PATIENCE_MS);
    afterAll(async () => {
      for (const left of await hypervisor.list()) await hypervisor.kill(left);
      await machine.dispose();
    }, PATIENCE_MS);

    async function dieIn(call: LastWords['call'], afterMs: number): Promise<void> {
      const words: LastWords = { recipe: machine.recipe, id, call, afterMs };
      const script = fileURLToPath(new URL(`./worker-that-dies${extname(HERE)}`, HERE));
      // Where the sources are compiled already there is nothing to be loaded for them.
      const loader = extname(HERE) === '.ts' ? ['--import', join(ROOT, 'test/tools/typescript.mjs')] : [];
      const argv = [process.execPath, ...loader, script, JSON.stringify(words)];
      await exec.run(argv, { timeoutMs: PATIENCE_MS }).catch((err: unknown) => {
        if (!(err instanceof CommandError && err.signal === 'SIGKILL')) throw err;
      });
    }

    async function ensureRunning(): Promise<void> {
      if ((await hypervisor.status(id)) === 'frozen') await hypervisor.unfreeze(id);
      await hypervisor.start(id, spec);
      expect(await hypervisor.status(id)).toBe('running');
    }

    it('refuses what is no id before it becomes part of a path', async () => {
      const refused = { code: 'invalid_request' };
      for (const bad of ['', '..', 'a/b', '../../etc', 'x'.repeat(65)]) {
        await expect(Promise.resolve().then(() => hypervisor.status(bad))).rejects.toMatchObject(refused);
        await expect(hypervisor.start(bad, spec)).rejects.toMatchObject(refused);
        await expect(hypervisor.kill(bad)).rejects.toMatchObject(refused);
      }
    });

    it(
      'leaves nothing of a VM whose network namespace is not there',
      async () => {
        const network = { ...spec.network, namespace: 'sbx-not-there' };
        await expect(hypervisor.start(id, { ...spec, network })).rejects.toThrow(/sbx-not-there/);
        expect(await machine.leftovers(id)).toEqual([]);
      },
      PATIENCE_MS,
    );

    it(
      'starts in the place of a VM that is long dead, with a socket that nobody listens on',
      async () => {
        const socket = machine.socketOf(id);
        await mkdir(dirname(socket), { recursive: true });
        const server = createServer();
        await new Promise<void>((resolve) => server.listen(`${socket}.first`, resolve));
        // Under another name it stays when its server is closed.
        await rename(`${socket}.first`, socket);
        await new Promise((resolve) => server.close(resolve));
        const dead = { pid: 4_194_303, startTime: '1', bootId: 'another' };
        await writeFile(join(dirname(socket), '../vm.json'), JSON.stringify({ process: dead, started: true }));
        expect(await hypervisor.status(id)).toBe('absent');
        expect(await hypervisor.list()).toContain(id);
        await hypervisor.start(id, spec);
        expect(await hypervisor.status(id)).toBe('running');
        await hypervisor.kill(id);
        expect(await machine.leftovers(id)).toEqual([]);
      },
      PATIENCE_MS,
    );

    it(
      'is not taken in by somebody else on its socket',
      async () => {
        const socket = machine.socketOf(id);
        await mkdir(dirname(socket), { recursive: true });
        const server = createServer((connection) => connection.end('who?\n'));
        await new Promise<void>((resolve) => server.listen(socket, resolve));
        try {
          expect(await hypervisor.status(id)).toBe('absent');
          await hypervisor.start(id, spec);
          expect(await hypervisor.status(id)).toBe('running');
          await hypervisor.kill(id);
          expect(await machine.leftovers(id)).toEqual([]);
        } finally {
          await new Promise((resolve) => server.close(resolve));
        }
      },
      PATIENCE_MS,
    );

    it(
      'does not take a process for a VM because somebody wrote that down',
      async () => {
        const socket = machine.socketOf(id);
        await mkdir(dirname(socket), { recursive: true });
        const { pid } = await exec.spawnDetached(['sleep', '600'], { logFile: '/dev/null' });
        const stranger = await identify(pid);
        try {
          await writeFile(join(dirname(socket), '../vm.json'), JSON.stringify({ process: stranger, started: true }));
          await expect(hypervisor.status(id)).rejects.toThrow();
          await hypervisor.kill(id);
          expect(await machine.leftovers(id)).toEqual([]);
        } finally {
          if (stranger !== undefined) await killProcess(stranger, 10_000);
        }
      },
      PATIENCE_MS,
    );

    it(
      'starts, freezes and kills many at once, each for itself',
      async () => {
        const vms = await Promise.all([0, 1, 2].map((index) => machine.vm(index)));
        await Promise.all(vms.map((vm) => hypervisor.start(vm.id, vm.spec)));
        const listed = await hypervisor.list();
        for (const vm of vms) expect(listed).toContain(vm.id);
        await hypervisor.freeze(vms[1]?.id ?? '');
        const statuses = () => Promise.all(vms.map((vm) => hypervisor.status(vm.id)));
        expect(await statuses()).toEqual(['running', 'frozen', 'running']);
        await Promise.all(vms.map((vm) => hypervisor.kill(vm.id)));
        expect(await statuses()).toEqual(['absent', 'absent', 'absent']);
        for (const vm of vms) expect(await machine.leftovers(vm.id)).toEqual([]);
      },
      PATIENCE_MS,
    );

    it(
      'is one VM however many calls come at once',
      async () => {
        await Promise.all([1, 2, 3].map(() => hypervisor.start(id, spec)));
        await Promise.all([1, 2, 3].flatMap(() => [hypervisor.freeze(id), hypervisor.status(id)]));
        expect(await hypervisor.status(id)).toBe('frozen');
        const files = [machine.newPath(), machine.newPath()];
        const saves = await Promise.all(files.map((file) => hypervisor.save(id, file)));
        for (const [index, file] of files.entries()) expect(await measureMemory(file)).toEqual(saves[index]);
        await Promise.all([1, 2, 3].map(() => hypervisor.unfreeze(id)));
        expect(await hypervisor.status(id)).toBe('running');
        await Promise.all([1, 2, 3].map(() => hypervisor.kill(id)));
        expect(await machine.leftovers(id)).toEqual([]);
      },
      PATIENCE_MS,
    );

    it.each([0, 20, 80, 300])(
      'takes over from a worker that died %d ms into a start',
      async (afterMs) => {
        await dieIn({ method: 'start', spec }, afterMs);
        expect(['absent', 'running']).toContain(await hypervisor.status(id));
        await ensureRunning();
        await hypervisor.kill(id);
        expect(await machine.leftovers(id)).toEqual([]);
        // Without the detour over another start.
        await dieIn({ method: 'start', spec }, afterMs);
        await hypervisor.kill(id);
        expect(await machine.leftovers(id)).toEqual([]);
      },
      PATIENCE_MS,
    );

    it(
      'takes over from workers that died while they froze, saved and unfroze',
      async () => {
        await ensureRunning();
        await guest.awake();
        const bootId = await guest.bootId();
        for (const afterMs of [0, 10]) {
          await dieIn({ method: 'freeze' }, afterMs);
          await hypervisor.freeze(id);
          for (const during of [10, 100]) {
            const torn = machine.newPath();
            await dieIn({ method: 'save', file: torn }, during);
            expect(await hypervisor.status(id)).toBe('frozen');
            const file = machine.newPath();
            const saved = await hypervisor.save(id, file);
            expect(await measureMemory(file)).toEqual(saved);
          }
          await dieIn({ method: 'unfreeze' }, afterMs);
          await hypervisor.unfreeze(id);
          await guest.awake();
          expect(await guest.bootId()).toBe(bootId);
        }
      },
      PATIENCE_MS,
    );

    it(
      'takes over from a worker that died in a save, and lets the guest run on',
      async () => {
        await hypervisor.freeze(id);
        await dieIn({ method: 'save', file: machine.newPath() }, 30);
        await hypervisor.unfreeze(id);
        expect(await hypervisor.status(id)).toBe('running');
        await guest.awake();
      },
      PATIENCE_MS,
    );

    it(
      'fails a save for which there is no room, and lets the guest run on',
      async () => {
        const small = machine.newPath();
        await mkdir(small);
        await exec.run(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'small', small]);
        try {
          await hypervisor.freeze(id);
          await expect(hypervisor.save(id, join(small, 'memory'))).rejects.toMatchObject({ code: 'disk_full' });
          expect(await hypervisor.status(id)).toBe('frozen');
          await hypervisor.unfreeze(id);
          await guest.awake();
        } finally {
          await exec.run(['umount', small]);
        }
      },
      PATIENCE_MS,
    );

    it(
      'takes over from workers that died while they restored and killed',
      async () => {
        await ensureRunning();
        await guest.awake();
        await hypervisor.freeze(id);
        const memoryFile = machine.newPath();
        await hypervisor.save(id, memoryFile);
        const bootId = await guest.bootId().catch(() => undefined);
        expect(bootId).toBeUndefined();
        for (const afterMs of [0, 10, 60]) {
          await dieIn({ method: 'kill' }, afterMs);
          await hypervisor.kill(id);
          expect(await machine.leftovers(id)).toEqual([]);
          await dieIn({ method: 'start', spec: { ...spec, memoryFile } }, afterMs * 2);
          if ((await hypervisor.status(id)) === 'frozen') await hypervisor.unfreeze(id);
          await hypervisor.start(id, { ...spec, memoryFile });
          expect(await hypervisor.status(id)).toBe('running');
          await guest.awake();
        }
        await hypervisor.kill(id);
        expect(await machine.leftovers(id)).toEqual([]);
      },
      PATIENCE_MS,
    );
  });
}
