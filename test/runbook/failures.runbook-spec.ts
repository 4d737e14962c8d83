import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from '@jest/globals';
import type { OperationDto } from '../../api/operation/operation.dto.js';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import type { TemplateDto } from '../../api/template/template.dto.js';
import { sandboxWorkflowId } from '../../workflows/contract/ids.js';
import type { Page } from '../support/e2e-api.js';
import { readCounter, startCounter, type CounterReading } from '../support/e2e-counter.js';
import { eventually } from '../support/e2e-eventually.js';
import { describeOnPlatform } from '../support/e2e-suite.js';
import { TEMPLATE } from '../support/e2e-template.js';
import { coverFolder, moveAside, type Mend } from './faults.js';
import { describePage } from './runbook-suite.js';
import { statusOf } from './temporal-runs.js';

const SETUP_MS = 120_000;

/** What an operation that could not write leaves behind, and how it is repeated. */
describeOnPlatform('failures', ({ api, tier, atEnd }) => {
  const snapshotsOf = ({ id }: SandboxDto) => join(tier.hostDirectory, 'sandboxes', id, 'snapshots');

  /** A pause of a running sandbox that fails before its commit point, and what it takes to let the next one succeed. */
  async function failedPause(how: 'read-only' | 'small'): Promise<{
    sandbox: SandboxDto;
    operation: OperationDto;
    before: CounterReading;
    mend: Mend;
  }> {
    const sandbox = await api.create();
    await startCounter(api, sandbox.id);
    const mend = await coverFolder(snapshotsOf(sandbox), how);
    atEnd(mend);
    const before = await readCounter(api, sandbox.id);
    await api.refused('POST', `/v1/sandboxes/${sandbox.id}/pause?wait=true`);
    const [operation] = await api.operations(`sandbox_id=${sandbox.id}&state=failed`);
    if (!operation) throw new Error('no failed operation is listed');
    return { sandbox, operation, before, mend };
  }

  const newest = async (sandboxId: string): Promise<OperationDto> => {
    const [operation] = await api.operations(`sandbox_id=${sandboxId}`);
    if (!operation) throw new Error(`no operation of ${sandboxId} is listed`);
    return operation;
  };

  describePage('A pause has failed', (page) => {
    let failed: Awaited<ReturnType<typeof failedPause>>;
    const about = () => ({
      SANDBOX: failed.sandbox.id,
      OP: failed.operation.id,
      HOST: failed.sandbox.host_id ?? undefined,
    });

    beforeAll(async () => {
      failed = await failedPause('read-only');
    }, SETUP_MS);

    it('is found, with step, host, attempts, cause and what to do', async () => {
      const text = await page.runUntil('Find it', about(), [`sandbox/${failed.sandbox.id}`, failed.operation.id]);
      expect(text).toMatch(/^failure +snapshotVm: snapshotVm failed on host \S+: .*snapshots/m);
      expect(text).toMatch(/^what to do +\S/m);
      expect(text).toMatch(/^attempts +\d/m);
      expect(text).toMatch(new RegExp(`^host +${failed.sandbox.host_id}`, 'm'));
      expect(text).not.toContain('not undone');
    });

    it('has left the sandbox running, with its memory and nothing of the attempt', async () => {
      expect(await api.sandbox(failed.sandbox.id)).toMatchObject({ state: 'running', operation: null });
      const after = await readCounter(api, failed.sandbox.id);
      expect(after.process).toBe(failed.before.process);
      expect(await readdir(snapshotsOf(failed.sandbox))).toEqual([]);
    });

    it('is repeated, each time as a new operation, once its cause is mended', async () => {
      await failed.mend();
      const { stdout } = await page.run('Do', about());
      const retried = await api.operation(stdout.trim());
      expect(retried).toMatchObject({ kind: 'pause', state: 'succeeded', retry_of: failed.operation.id });
      expect(retried.epoch).toBeGreaterThan(failed.operation.epoch);

      await api.resume(failed.sandbox.id);
      expect(JSON.parse((await page.run('Do', about(), 1)).stdout)).toMatchObject({
        kind: 'pause',
        state: 'succeeded',
      });
      await api.resume(failed.sandbox.id);
      await page.run('Do', about(), 2);
      expect(await api.sandbox(failed.sandbox.id)).toMatchObject({ state: 'paused', failure: null });
    });

    it('has lost nothing', async () => {
      await api.resume(failed.sandbox.id);
      expect((await readCounter(api, failed.sandbox.id)).process).toBe(failed.before.process);
      await api.destroy(failed.sandbox.id);
    });
  });

  describePage('A disk is full', (page) => {
    let failed: Awaited<ReturnType<typeof failedPause>>;
    const about = () => ({ OP: failed.operation.id, HOST: failed.sandbox.host_id ?? undefined });

    beforeAll(async () => {
      failed = await failedPause('small');
    }, SETUP_MS);

    it('is found', async () => {
      const text = await page.runUntil('Find it', about(), [`sandbox/${failed.sandbox.id}`]);
      expect(text).toContain('disk_full');
      expect(text).toMatch(/^what to do +free space/m);
      expect(text).toMatch(/^Filesystem/m);
    });

    it('has left the sandbox running', async () => {
      expect(await api.sandbox(failed.sandbox.id)).toMatchObject({ state: 'running', operation: null });
      expect((await readCounter(api, failed.sandbox.id)).process).toBe(failed.before.process);
    });

    it('shows what takes the space, and the operation can be repeated when there is some', async () => {
      const { stdout } = await page.run('Do', about());
      expect(stdout).toContain(join(tier.home, 'host/sandboxes'));
      await failed.mend();
      await page.run('Do', about(), 1);
      expect(await newest(failed.sandbox.id)).toMatchObject({ kind: 'pause', state: 'succeeded' });
      await api.resume(failed.sandbox.id);
      expect((await readCounter(api, failed.sandbox.id)).process).toBe(failed.before.process);
      await api.destroy(failed.sandbox.id);
    });
  });

  describePage('A run is to be reset', (page) => {
    let failed: Awaited<ReturnType<typeof failedPause>>;
    const about = () => ({ OP: failed.operation.id, SANDBOX: failed.sandbox.id });

    beforeAll(async () => {
      failed = await failedPause('read-only');
      await failed.mend();
    }, SETUP_MS);

    it('is found', async () => {
      await page.runUntil('Find it', about(), [`sandbox/${failed.sandbox.id}`, failed.operation.run_id]);
    });

    it('begins the operation anew', async () => {
      await page.run('Do', about());
      await eventually('the sandbox is paused', async () =>
        (await api.sandbox(failed.sandbox.id)).state === 'paused' ? true : undefined,
      );
      expect(await newest(failed.sandbox.id)).toMatchObject({ kind: 'pause', state: 'succeeded' });
    });

    it('is refused, and changes nothing, where the sandbox has gone on to a state that does not allow it', async () => {
      const before = await newest(failed.sandbox.id);
      await page.run('Do', about());
      await eventually('the new run has ended', async () =>
        (await statusOf(tier, sandboxWorkflowId(failed.sandbox.id))) === 'FAILED' ? true : undefined,
      );
      expect(await newest(failed.sandbox.id)).toEqual(before);
      await api.resume(failed.sandbox.id);
      expect((await readCounter(api, failed.sandbox.id)).process).toBe(failed.before.process);
      await api.destroy(failed.sandbox.id);
    });
  });

  describePage('A create has failed', (page) => {
    let sandboxId: string;

    beforeAll(async () => {
      const [warm] = (await api.get<Page<TemplateDto>>('/v1/templates')).items.flatMap((one) => one.warm);
      const mend = await moveAside(join(tier.hostDirectory, 'templates', warm?.build_id ?? ''));
      atEnd(mend);
      const refusal = await api.refused('POST', '/v1/sandboxes?wait=true', { body: TEMPLATE });
      sandboxId = String(refusal.details?.sandbox_id);
      await mend();
    }, SETUP_MS);

    it('is found, with its cause, and nothing of it is left on the host', async () => {
      const text = await page.runUntil('Find it', { SANDBOX: sandboxId }, [`sandbox/${sandboxId}`]);
      expect(text).toMatch(/^state +error/m);
      expect(text).toMatch(/^failure +attachDisk: .*is not on this host/m);
      expect(text).toMatch(/^what to do +\S/m);
      expect(text).toContain('create.failed');
      expect(await readdir(join(tier.hostDirectory, 'sandboxes'))).not.toContain(sandboxId);
    });

    it('is forgotten, and the next create succeeds', async () => {
      const { stdout } = await page.run('Do', { SANDBOX: sandboxId });
      expect(await api.sandbox(sandboxId)).toMatchObject({ state: 'stopped' });
      const created = stdout.trim().split('\n').at(-1) ?? '';
      expect(await api.sandbox(created)).toMatchObject({ state: 'running' });
    });
  });
});
