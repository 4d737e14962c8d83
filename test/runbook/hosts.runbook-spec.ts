import { join } from 'node:path';
import { beforeAll, expect, it } from '@jest/globals';
import type { HostDto } from '../../api/host/host.dto.js';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import type { Page } from '../support/e2e-api.js';
import { readCounter, startCounter, type CounterReading } from '../support/e2e-counter.js';
import { settledIn } from '../support/e2e-eventually.js';
import { describeOnPlatform } from '../support/e2e-suite.js';
import { holdDisk, type Mend } from './faults.js';
import { machineOf, processOf } from '../support/e2e-processes.js';
import { describePage } from './runbook-suite.js';

const SETUP_MS = 120_000;

/** Steps that wait for a host, and a host that is waited for. */
describeOnPlatform('hosts', ({ api, tier, atEnd }) => {
  describePage('A pause is stuck', (page) => {
    let sandbox: SandboxDto;
    let operation: string;
    let before: CounterReading;
    let letGo: Mend;
    const about = () => ({ SANDBOX: sandbox.id, OP: operation, STEP: 'detachDisk', AGO: '1 second ago' });

    beforeAll(async () => {
      sandbox = await api.create();
      await startCounter(api, sandbox.id);
      letGo = await holdDisk(join(tier.hostDirectory, 'sandboxes', sandbox.id, 'disk.qcow2'));
      atEnd(letGo);
      before = await readCounter(api, sandbox.id);
      operation = (await api.start(sandbox.id, 'pause')).operation?.id ?? '';
    }, SETUP_MS);

    it('is found, with the step, its attempts, its last failure and what to do', async () => {
      const text = await page.runUntil('Find it', about(), [
        `sandbox/${sandbox.id}`,
        /^pending +detachDisk, attempt [2-9]: .*disk\.qcow2/m,
      ]);
      expect(text).toMatch(/^what to do .*it cannot turn back and goes on by itself/m);
      expect(text).toMatch(/ActivityId +detachDisk/i);
      expect(await api.sandbox(sandbox.id)).toMatchObject({ state: 'pausing' });
    });

    it('is kept from being tried while somebody mends it', async () => {
      const held = /State +Paused$/m;
      await page.run('Do', about());
      await page.runUntil('Find it', about(), [held]);
      await page.run('Do', about(), 1);
      expect((await page.run('Find it', about())).stdout).not.toMatch(held);
      await page.run('Do', about());
      await page.runUntil('Find it', about(), [held]);
      expect(await api.operation(operation)).toMatchObject({ state: 'running' });
    });

    it('is completed when its cause is mended, and has lost nothing', async () => {
      await letGo();
      expect(await api.operation(operation)).toMatchObject({ state: 'running' });
      await page.run('Do', about(), 2);
      await settledIn(api, sandbox.id, 'paused');
      expect(await api.operation(operation)).toMatchObject({ state: 'succeeded', failure: null });
      await api.resume(sandbox.id);
      expect((await readCounter(api, sandbox.id)).process).toBe(before.process);
      await api.destroy(sandbox.id);
    });
  });

  let untouched: SandboxDto;
  let paused: SandboxDto;
  let rebooted: SandboxDto;
  let undecided: SandboxDto;
  let givenUp: SandboxDto;
  let began: CounterReading;
  let host: HostDto;

  describePage('A host is lost', (page) => {
    beforeAll(async () => {
      [untouched, paused, rebooted, givenUp] = await Promise.all([
        api.create(),
        api.create(),
        api.create(),
        api.create(),
      ]);
      undecided = await api.create({ on_memory_loss: 'error' });
      await startCounter(api, untouched.id);
      began = await readCounter(api, untouched.id);
      await api.pause(paused.id);
      for (const { id } of [rebooted, undecided]) await api.sh(id, 'echo kept > /home/user/file; sync');

      // A machine that hangs: its worker is there and does nothing.
      const { pid } = await processOf(tier, 'host-worker');
      process.kill(pid, 'SIGSTOP');
      atEnd(async () => void process.kill((await processOf(tier, 'host-worker')).pid, 'SIGCONT'));
    }, SETUP_MS);

    it('is found within moments, with what ran on it', async () => {
      const HOST = untouched.host_id ?? undefined;
      const text = await page.runUntil('Find it', { HOST }, [
        /offline/,
        ...[untouched, rebooted, undecided, givenUp].map(({ id }) => new RegExp(`^${id} +missing`, 'm')),
      ]);
      expect(text).not.toContain(paused.id);
      expect(text).toContain('HostWatch');
      expect((await api.get<Page<HostDto>>('/v1/hosts')).items).toEqual([
        expect.objectContaining({ status: 'offline', lost_at: expect.any(String) }),
      ]);
      expect(await api.sandbox(paused.id)).toMatchObject({ state: 'paused' });
      expect((await api.events(untouched.id)).map(({ type }) => type)).toContain('host.lost');
    });

    it('takes nothing new', async () => {
      expect(await api.refused('POST', '/v1/sandboxes?wait=true', { body: { template: 'small' } })).toMatchObject({
        code: 'no_hosts_available',
      });
    });

    it('leaves a log, and what it held can be given up', async () => {
      expect((await page.run('Do')).stdout).toContain('"level"');
      await page.run('Do', { SANDBOX: givenUp.id }, 1);
      expect(await api.sandbox(givenUp.id)).toMatchObject({ state: 'stopping' });
    });
  });

  describePage('A host returns', (page) => {
    beforeAll(async () => {
      // What a machine that was switched off has lost, and one that only hung has not.
      for (const { id } of [rebooted, undecided]) process.kill((await machineOf(tier, id)).pid, 'SIGKILL');
      process.kill((await processOf(tier, 'host-worker')).pid, 'SIGCONT');
    }, SETUP_MS);

    it('is found, with what it has found', async () => {
      await page.runUntil('Find it', {}, [
        /online/,
        new RegExp(`^${undecided.id} +error`, 'm'),
        new RegExp(`found +${untouched.id}`),
        new RegExp(`unresolved +${rebooted.id}`),
      ]);
    });

    it('has what ran, untouched, and what was paused', async () => {
      await settledIn(api, untouched.id, 'running');
      const now = await readCounter(api, untouched.id);
      expect(now.process).toBe(began.process);
      expect(now.count).toBeGreaterThan(began.count);
      expect(await api.sandbox(untouched.id)).toMatchObject({ memory_lost: null });
      await api.resume(paused.id);
      expect(await api.sh(paused.id, 'echo works')).toBe('works');
      await settledIn(api, givenUp.id, 'stopped');
      [host] = (await api.get<Page<HostDto>>('/v1/hosts')).items as [HostDto];
      expect(host).toMatchObject({ status: 'online', lost_at: null });
    });

    it('has booted what lost its memory, and says so', async () => {
      expect((await settledIn(api, rebooted.id, 'running')).memory_lost).toMatchObject({ reason: expect.any(String) });
      expect(await api.sh(rebooted.id, 'cat /home/user/file')).toBe('kept');
    });

    it('waits with what somebody has to decide about', async () => {
      expect((await settledIn(api, undecided.id, 'error')).failure).toMatchObject({ code: 'memory_lost' });
      const { stdout } = await page.run('Do', { SANDBOX: undecided.id });
      expect(stdout).toMatch(/^what to do .*torpor sandbox recover/m);
      expect(stdout).toMatch(/recover\.(started|succeeded)/);
      expect(await api.sandbox(undecided.id)).toMatchObject({
        state: 'running',
        memory_lost: { reason: expect.any(String) },
      });
      expect(await api.sh(undecided.id, 'cat /home/user/file')).toBe('kept');
    });
  });
});
