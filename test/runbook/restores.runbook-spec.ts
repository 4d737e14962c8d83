import { join } from 'node:path';
import { beforeAll, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { sandboxWorkflowId, ttlWorkflowId } from '../../workflows/contract/ids.js';
import { readCounter, startCounter, type CounterReading } from '../support/e2e-counter.js';
import { eventually, settledIn } from '../support/e2e-eventually.js';
import { describeOnPlatform } from '../support/e2e-suite.js';
import { identityOf, type ProcessIdentity } from '../../cli/platform/process-identity.js';
import { backUpDatabase, backUpTemporal } from './backups.js';
import { holdDisk } from './faults.js';
import { machineOf } from '../support/e2e-processes.js';
import { describePage } from './runbook-suite.js';
import { statusOf } from './temporal-runs.js';

const SETUP_MS = 180_000;
const NOTHING_FOUND = /: nothing found$/m;

describeOnPlatform(
  'restores',
  ({ api, tier, atEnd }) => {
    /** A pause that has saved everything and cannot end, and what lets it end. */
    async function stuckPause(sandbox: SandboxDto): Promise<{ operation: string; letGo: () => Promise<void> }> {
      const letGo = await holdDisk(join(tier.hostDirectory, 'sandboxes', sandbox.id, 'disk.qcow2'));
      atEnd(letGo);
      const { operation } = await api.start(sandbox.id, 'pause');
      const id = operation?.id ?? '';
      await eventually('the pause waits for the disk', async () =>
        (await api.operation(id)).progress?.pending.find(({ activity }) => activity === 'detachDisk'),
      );
      return { operation: id, letGo };
    }

    describePage('Temporal was restored from a backup', (page) => {
      let revived: SandboxDto;
      let lost: SandboxDto;
      let unkept: SandboxDto;
      let oldRun: { operation: string; runId: string };
      let began: CounterReading;

      beforeAll(async () => {
        [revived, lost] = await Promise.all([api.create(), api.create()]);
        await startCounter(api, revived.id);
        began = await readCounter(api, revived.id);
        const first = await stuckPause(revived);
        oldRun = { operation: first.operation, runId: (await api.operation(first.operation)).run_id };

        const backup = await backUpTemporal(tier);
        atEnd(backup.remove);
        await first.letGo();
        await settledIn(api, revived.id, 'paused');
        await api.resume(revived.id);
        unkept = await api.create({ timeout_seconds: 3600 });
        const second = await stuckPause(lost);
        await backup.restore();
        await second.letGo();
        await eventually('Temporal answers again', () => statusOf(tier, sandboxWorkflowId(revived.id)));
      }, SETUP_MS);

      it('is found by what is missing, and by runs that were overtaken', async () => {
        expect(await statusOf(tier, ttlWorkflowId(unkept.id))).toBeUndefined();
        const text = await page.runUntil('Find it', {}, [
          new RegExp(`run_lost +${lost.id}`),
          new RegExp(`keeper_missing +${unkept.id}`),
          new RegExp(`Failed +sandbox/${revived.id}`),
        ]);
        expect(text).toContain('would_repair');
      });

      it('lets the runs that it revived end without effect', async () => {
        expect(await statusOf(tier, sandboxWorkflowId(revived.id), oldRun.runId)).toBe('FAILED');
        expect(await api.operation(oldRun.operation)).toMatchObject({ state: 'succeeded' });
        expect(await api.sandbox(revived.id)).toMatchObject({ state: 'running', operation: null });
        const now = await readCounter(api, revived.id);
        expect(now.process).toBe(began.process);
        expect(now.count).toBeGreaterThan(began.count);
      });

      it('is mended by the commands of the page', async () => {
        expect((await page.run('Do')).stdout).toMatch(new RegExp(`run_lost +${lost.id}`));
        // Its memory was recorded before its run was lost: it had passed its commit point.
        await settledIn(api, lost.id, 'paused');
        expect(await statusOf(tier, ttlWorkflowId(unkept.id))).toBe('RUNNING');
        expect((await page.run('Do', {}, 1)).stdout).toMatch(NOTHING_FOUND);
        await api.resume(lost.id);
        expect(await api.sh(lost.id, 'echo works')).toBe('works');
        for (const { id } of [revived, lost, unkept]) await api.destroy(id);
      });
    });

    describePage('The database was restored from a backup', (page) => {
      /** They were worked on since the backup, and are still in the same state, or in another one. */
      let repeated: SandboxDto;
      let resumed: SandboxDto;
      let paused: SandboxDto;
      /** It was made since the backup. */
      let unknown: SandboxDto;
      let machine: ProcessIdentity;
      const began = new Map<string, CounterReading>();

      async function hasItsMemory({ id }: SandboxDto): Promise<void> {
        expect(await api.sandbox(id)).toMatchObject({ state: 'running', operation: null, memory_lost: null });
        expect((await readCounter(api, id)).process).toBe(began.get(id)?.process);
      }

      beforeAll(async () => {
        [repeated, resumed, paused] = await Promise.all([api.create(), api.create(), api.create()]);
        for (const { id } of [repeated, resumed, paused]) {
          await startCounter(api, id);
          began.set(id, await readCounter(api, id));
        }
        await api.pause(resumed.id);

        const backup = await backUpDatabase(tier);
        atEnd(backup.remove);
        await api.pause(repeated.id);
        await api.resume(repeated.id);
        await api.resume(resumed.id);
        await api.pause(paused.id);
        unknown = await api.create();
        machine = await machineOf(tier, unknown.id);
        await backup.restore();
      }, SETUP_MS);

      it('is found by what the hosts know better', async () => {
        const { stdout } = await page.run('Find it');
        for (const { id } of [repeated, resumed, paused]) {
          expect(stdout).toMatch(new RegExp(`epoch_behind +${id}.*would_repair`));
        }
        expect(stdout).toMatch(new RegExp(`unknown +${unknown.id}.*kept`));
      });

      it('is mended, and nobody is touched', async () => {
        const { stdout } = await page.run('Do');
        for (const { id } of [repeated, resumed, paused]) {
          expect(stdout).toMatch(new RegExp(`epoch_behind +${id}.*repaired`));
          expect(stdout).not.toMatch(new RegExp(`^${id} +(error|missing)`, 'm'));
        }
        await hasItsMemory(repeated);
        await hasItsMemory(resumed);
        expect(await api.sandbox(paused.id)).toMatchObject({ state: 'paused' });
        expect(identityOf(machine.pid)?.startTime).toBe(machine.startTime);
      });

      it('lets the hosts take operations again, and has lost nothing', async () => {
        await api.pause(repeated.id);
        for (const { id } of [repeated, paused]) await api.resume(id);
        await hasItsMemory(repeated);
        await hasItsMemory(paused);
      });

      it('loses what nobody knows only when somebody says so', async () => {
        const { stdout } = await page.run('Do', {}, 1);
        expect(stdout).toMatch(new RegExp(`unknown +${unknown.id}.*repaired`));
        expect(identityOf(machine.pid)?.startTime).not.toBe(machine.startTime);
        for (const { id } of [repeated, resumed, paused]) await api.destroy(id);
      });
    });
  },
  { restarts: true },
);
