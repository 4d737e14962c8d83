import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { HostDto } from '../../api/host/host.dto.js';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { type Answered, insist } from '../chaos/caller.js';
import { ChaosPlatform } from '../chaos/chaos-platform.js';
import { NOTHING } from '../chaos/checks/host-view.js';
import { realGuest } from '../chaos/checks/real-guest.js';
import type { GuestFacts } from '../chaos/checks/guest-memory.js';
import { LabHostMachine } from '../chaos/lab-host-machine.js';
import type { LabProcess } from '../chaos/lab-process.js';
import { sandboxOf, verbRequest } from '../chaos/stories.js';
import type { Page } from '../support/e2e-api.js';
import { eventually } from '../support/e2e-eventually.js';
import { describeWhen } from '../support/needs.js';
import { CLOUD_HYPERVISOR, labEnvironment } from './lab-environment.js';

const DRIVERS = { hypervisor: 'cloud-hypervisor', disk: 'dm-snapshot' };
const MEMORY_MB = 3_584;
/** Emulated machines take minutes for what real ones do in seconds. */
const PATIENCE_MS = 15 * 60_000;
const SIZE = { template: 'minimal', vcpus: 1, memory_mb: 128, cold: true, timeout_seconds: 7_200 };

/** What lives on the host that is going to die. */
const STORIES = {
  paused: 'reboot',
  pausing: 'reboot',
  reboots: 'reboot',
  fails: 'error',
} as const;
type Story = keyof typeof STORIES;
const NAMES = Object.keys(STORIES) as Story[];

describeWhen(
  labEnvironment().cloudHypervisor !== undefined,
  CLOUD_HYPERVISOR,
  'two hosts, of which one loses its power',
  () => {
    const run = `h${process.pid}-${Date.now().toString(36)}`;
    const notes: string[] = [];
    let platform: ChaosPlatform;
    let first: LabHostMachine;
    let second: LabHostMachine;
    let secondWorker: LabProcess;
    const before = new Map<Story, GuestFacts>();
    let pausing: Promise<Answered>;

    const idOf = (name: string): string => sandboxOf(`${run}-${name}`);
    const ask = (method: string, path: string, more: { body?: unknown; key?: string } = {}): Promise<Answered> =>
      insist(platform.api, { method, path, ...more }, AbortSignal.timeout(PATIENCE_MS));
    async function create(name: string, body: object = {}): Promise<SandboxDto> {
      const path = '/v1/sandboxes?wait=true';
      const answer = await ask('POST', path, { body: { ...SIZE, ...body }, key: `${run}-${name}` });
      expect([name, answer.status, answer.body]).toMatchObject([name, 201, { state: 'running' }]);
      return answer.body as SandboxDto;
    }
    const settled = (name: string, states: readonly string[]): Promise<SandboxDto> =>
      eventually(
        `${name} is ${states.join(' or ')}`,
        async () => {
          const sandbox = await platform.api.sandbox(idOf(name));
          if (!states.includes(sandbox.state) || sandbox.operation) throw new Error(JSON.stringify(sandbox));
          return sandbox;
        },
        PATIENCE_MS,
      );
    const hosts = async (): Promise<HostDto[]> => (await platform.api.get<Page<HostDto>>('/v1/hosts')).items;
    const online = (count: number): Promise<HostDto[]> =>
      eventually(
        `${count} hosts are online`,
        async () => {
          const there = (await hosts()).filter(({ status }) => status === 'online');
          return there.length === count ? there : undefined;
        },
        PATIENCE_MS,
      );

    beforeAll(async () => {
      const note = (text: string): void => void notes.push(text);
      const lab = { ...DRIVERS, memoryMb: MEMORY_MB };
      platform = await ChaosPlatform.start({ qemu: false, cluster: false, times: {}, lab }, note);
      if (platform.lab === undefined) throw new Error('the platform has no lab');
      first = platform.lab;
      await online(1);
    }, PATIENCE_MS);

    afterAll(async () => {
      await secondWorker?.stop();
      await second?.lab.kill();
      await platform?.stop();
      await platform?.removeFiles();
    }, PATIENCE_MS);

    it(
      'places sandboxes where there is room, on the first host and then on both',
      async () => {
        const made = [];
        for (const name of NAMES) made.push(await create(name, { on_memory_loss: STORIES[name] }));
        const [firstHost] = await online(1);
        expect(new Set(made.map(({ host_id }) => host_id))).toEqual(new Set([firstHost?.id]));

        const directory = join(platform.home.directory, 'lab-two');
        second = await LabHostMachine.start({ directory, name: 'torpor-lab-two', memoryMb: MEMORY_MB });
        secondWorker = await platform.labWorker(second, DRIVERS, 'host-worker-two');
        await secondWorker.start();
        await online(2);
        const neighbour = await create('neighbour');
        expect(neighbour.host_id).not.toBe(firstHost?.id);
      },
      PATIENCE_MS,
    );

    it(
      'calls sandboxes missing within the lease when their host dies, and deletes nothing',
      async () => {
        for (const name of NAMES) {
          await realGuest.plant(platform.api, idOf(name), `${run}-${name}`);
          before.set(name, await realGuest.look(platform.api, idOf(name)));
        }
        expect((await ask('POST', verbRequest('pause', idOf('paused'), '').path)).status).toBe(200);
        const track = platform.director.watch(idOf('pausing'), {
          ...{ process: 'host-worker', step: 'snapshotVm', occurrence: 1, edge: 'before' },
        });
        pausing = ask('POST', verbRequest('pause', idOf('pausing'), '').path);
        pausing.catch(() => undefined);
        await track.reached;

        const worker = platform.process('host-worker') as LabProcess;
        worker.forget();
        await first.lab.kill();
        track.release();
        const diedAt = Date.now();
        for (const name of ['reboots', 'fails'] as const) await settledOrMissing(name);
        // The lease of 20 s, the watch that wakes behind it, and what this machine makes of them.
        expect(Date.now() - diedAt).toBeLessThan(90_000);
        expect((await platform.api.sandbox(idOf('paused'))).state).toBe('paused');
        expect((await hosts()).map(({ status }) => status).toSorted()).toEqual(['offline', 'online']);

        async function settledOrMissing(name: Story): Promise<void> {
          await eventually(`${name} is missing`, async () =>
            (await platform.api.sandbox(idOf(name))).state === 'missing' ? true : undefined,
          );
        }
      },
      PATIENCE_MS,
    );

    it(
      'creates on the other host meanwhile, where the neighbour runs on',
      async () => {
        const substitute = await create('substitute');
        const neighbour = await platform.api.sandbox(idOf('neighbour'));
        expect([neighbour.state, substitute.host_id]).toEqual(['running', neighbour.host_id]);
        expect(await platform.api.sh(neighbour.id, 'uname -s')).toBe('Linux');
      },
      PATIENCE_MS,
    );

    it(
      'finds everything again when the host comes back on its disk',
      async () => {
        await first.lab.boot();
        await first.open();
        await platform.process('host-worker').start();
        await online(2);
        const rebooted = await settled('reboots', ['running']);
        expect(rebooted.memory_lost).not.toBeNull();
        const events = await platform.api.events(rebooted.id);
        expect(events.filter(({ data }) => data['memory_lost'] !== undefined)).toHaveLength(1);
        await realGuest.checkDisk(platform.api, rebooted.id, `${run}-reboots`);

        const failed = await settled('fails', ['error']);
        expect([failed.failure?.code, failed.next_steps]).toEqual([expect.any(String), expect.any(String)]);
        await pausing.catch(() => undefined);
        const torn = await settled('pausing', ['running']);
        expect(torn.memory_lost).not.toBeNull();
        await realGuest.checkDisk(platform.api, torn.id, `${run}-pausing`);
      },
      PATIENCE_MS,
    );

    it(
      'resumes the paused one where it stood',
      async () => {
        const id = idOf('paused');
        expect((await platform.api.sandbox(id)).state).toBe('paused');
        expect((await ask('POST', verbRequest('resume', id, '').path)).status).toBe(200);
        const now = await realGuest.look(platform.api, id);
        const then = before.get('paused');
        expect(now.nonce).toBe(then?.nonce);
        expect(now.count).toBeGreaterThan(then?.count ?? Infinity);
        expect((await platform.api.sandbox(id)).memory_lost).toBeNull();
        await realGuest.checkDisk(platform.api, id, `${run}-paused`);
      },
      PATIENCE_MS,
    );

    it(
      'leaves nothing on either machine once all are destroyed',
      async () => {
        for (const name of [...NAMES, 'neighbour', 'substitute']) {
          expect((await ask('DELETE', `/v1/sandboxes/${idOf(name)}?wait=true`)).status).toBe(200);
        }
        for (const machine of [first, second]) {
          const view = await machine.view();
          for (const name of [...NAMES, 'neighbour', 'substitute']) {
            expect([name, await view.of(idOf(name))]).toEqual([name, NOTHING]);
          }
        }
      },
      PATIENCE_MS,
    );
  },
);
