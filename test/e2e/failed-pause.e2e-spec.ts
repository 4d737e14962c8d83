import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from '@jest/globals';
import type { OperationDto } from '../../api/operation/operation.dto.js';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { readCounter, startCounter, type CounterReading } from '../support/e2e-counter.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const run = promisify(execFile);

/** The disk that snapshots go to is full: a file system too small for the memory of a guest lies over their folder. */
describeOnPlatform('a pause that fails on a full disk', ({ api, tier, atEnd }) => {
  let sandbox: SandboxDto;
  let folder: string;
  let mounted = false;
  let before: CounterReading;
  let failed: OperationDto;

  async function mend(): Promise<void> {
    if (mounted) await run('umount', [folder]);
    mounted = false;
  }

  beforeAll(async () => {
    sandbox = await api.create();
    await startCounter(api, sandbox.id);
    folder = join(tier.hostDirectory, 'sandboxes', sandbox.id, 'snapshots');
    await mkdir(folder);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder]);
    mounted = true;
    atEnd(mend);
  }, 120_000);

  it('is answered with the step, the host, the cause and what to do', async () => {
    before = await readCounter(api, sandbox.id);
    const refusal = await api.refused('POST', `/v1/sandboxes/${sandbox.id}/pause?wait=true`);
    expect(refusal).toMatchObject({
      status: 507,
      code: 'disk_full',
      details: { step: 'snapshotVm', sandbox_id: sandbox.id },
    });
    expect(refusal.message).toContain('snapshotVm failed on host');
    expect(refusal.suggestion).toContain('free space');
  });

  it('leaves the sandbox running and usable, with its memory, and nothing of the attempt on disk', async () => {
    expect(await api.sandbox(sandbox.id)).toMatchObject({ state: 'running', generation: 0, operation: null });
    const after = await readCounter(api, sandbox.id);
    expect(after.process).toBe(before.process);
    expect(after.count).toBeGreaterThan(before.count);
    expect(after.clockErrorMs).toBeLessThan(2_000);
    expect(await api.sh(sandbox.id, 'echo works > /home/user/file; sync; cat /home/user/file')).toBe('works');
    expect((await run('ls', ['-A', folder])).stdout).toBe('');
  });

  it('is found as a failed operation that tells the same', async () => {
    const [found] = await api.operations(`sandbox_id=${sandbox.id}&state=failed`);
    if (!found) throw new Error('no failed operation is listed');
    failed = await api.operation(found.id);
    expect(failed).toMatchObject({
      kind: 'pause',
      state: 'failed',
      step: 'snapshotVm',
      failure: { code: 'disk_full', step: 'snapshotVm' },
    });
    expect(failed.failure?.message).toMatch(/snapshotVm failed on host \S+: .*snapshot/);
    expect(failed.failure?.suggestion).toContain('free space');
    expect(failed.failure).not.toHaveProperty('needs_attention');
    expect(failed.temporal_url).toContain(failed.run_id);
    expect((await api.sandbox(sandbox.id)).failure).toMatchObject({
      operation_id: failed.id,
      step: 'snapshotVm',
      code: 'disk_full',
    });
    const event = (await api.events(sandbox.id)).find(({ type }) => type === 'pause.failed');
    expect(event).toMatchObject({ operation_id: failed.id });
  });

  it('fails again in the same way as long as nobody mends it', async () => {
    expect(await api.refused('POST', `/v1/operations/${failed.id}/retry?wait=true`)).toMatchObject({
      status: 507,
      code: 'disk_full',
    });
    expect(await api.sandbox(sandbox.id)).toMatchObject({ state: 'running' });
  });

  it('succeeds when it is repeated afterwards, as a new operation', async () => {
    await mend();
    const { status, body } = await api.ask<OperationDto>('POST', `/v1/operations/${failed.id}/retry?wait=true`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ kind: 'pause', state: 'succeeded', retry_of: failed.id, sandbox_id: sandbox.id });
    expect(body.epoch).toBeGreaterThan(failed.epoch);
    expect(await api.sandbox(sandbox.id)).toMatchObject({ state: 'paused', failure: null });
  });

  it('has lost nothing', async () => {
    await api.resume(sandbox.id);
    expect((await readCounter(api, sandbox.id)).process).toBe(before.process);
    expect(await api.sh(sandbox.id, 'cat /home/user/file')).toBe('works');
  });
});
