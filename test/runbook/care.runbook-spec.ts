import { beforeAll, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { identityOf, type ProcessIdentity } from '../../cli/platform/process-identity.js';
import { readCounter, startCounter } from '../support/e2e-counter.js';
import { eventually } from '../support/e2e-eventually.js';
import { describeOnPlatform } from '../support/e2e-suite.js';
import { inDatabase } from './backups.js';
import { machineOf, processOf, succeeded } from '../support/e2e-processes.js';
import { describePage } from './runbook-suite.js';
import { listRuns } from './temporal-runs.js';

const SETUP_MS = 120_000;

/** Looking, and what is done on quiet days. */
describeOnPlatform(
  'care',
  ({ api, tier }) => {
    let sandbox: SandboxDto;
    beforeAll(async () => {
      sandbox = await api.create();
      await startCounter(api, sandbox.id);
    }, SETUP_MS);

    describePage('Runbook', (page) => {
      it('reaches both servers', async () => {
        const { stdout } = await page.run(undefined);
        expect(stdout).toMatch(/^Total: \d+/m);
        expect(stdout).toMatch(new RegExp(`^${sandbox.host_id} .*online`, 'm'));
      });
    });

    describePage('How to read a run', (page) => {
      let team: string | undefined;

      beforeAll(async () => {
        team = await inDatabase(tier, async (client) => {
          const { rows } = await client.query<{ team_id: string }>('SELECT team_id FROM sandboxes WHERE id = $1', [
            sandbox.id,
          ]);
          return rows[0]?.team_id;
        });
      });

      it('has queries that find what they say', async () => {
        const about = { TEAM: team, HOST: sandbox.host_id ?? undefined, AGO: '1 second ago' };
        await page.runUntil('Find it', about, [`sandbox/${sandbox.id}`]);
        const [create] = await listRuns(tier, `WorkflowId = 'sandbox/${sandbox.id}'`);
        expect(create).toMatchObject({ type: 'CreateSandbox', status: 'COMPLETED' });
      });

      it('has the same from the platform', async () => {
        const [operation] = await api.operations(`sandbox_id=${sandbox.id}`);
        await page.run('Find it', { OP: operation?.id }, 1);
      });
    });

    describePage('The platform does not start, or a machine looks wrong', (page) => {
      it('is told by the machine and by the logs', async () => {
        const { stdout } = await page.run('Find it');
        expect(stdout).toContain('This machine can run sandboxes.');
        for (const name of ['api', 'control-worker', 'host-worker', 'postgres', 'temporal']) {
          expect(stdout).toContain(`/logs/${name}.log <==`);
        }
      });
    });

    describePage('An orphan was found', (page) => {
      let orphan: SandboxDto;
      let machine: ProcessIdentity;

      beforeAll(async () => {
        orphan = await api.create();
        machine = await machineOf(tier, orphan.id);
        // As if it had gone elsewhere and ended there, while this host was away.
        await inDatabase(tier, async (client) => {
          await client.query(`UPDATE sandboxes SET state = 'stopped', stopped_at = now() WHERE id = $1`, [orphan.id]);
          await client.query(`DELETE FROM sandbox_secrets WHERE id = $1`, [orphan.id]);
        });
      }, SETUP_MS);

      it('is found, and not removed at once', async () => {
        const { stdout } = await page.run('Find it');
        expect(stdout).toMatch(new RegExp(`orphan +${orphan.id}`));
        expect((await page.run('Do')).stdout).toMatch(new RegExp(`orphan +${orphan.id}.*waiting`));
        expect(identityOf(machine.pid)?.startTime).toBe(machine.startTime);
      });

      it('is removed by its host after the grace period, and that is told', async () => {
        await eventually('the orphan is removed', async () => {
          const { stdout } = await page.run('Do');
          return new RegExp(`orphan +${orphan.id}.*repaired`).test(stdout) ? true : undefined;
        });
        expect(identityOf(machine.pid)?.startTime).not.toBe(machine.startTime);
        expect((await page.run('Do')).stdout).toMatch(/: nothing found$/m);
        expect(await api.sandbox(sandbox.id)).toMatchObject({ state: 'running' });
      });
    });

    describePage('A worker is upgraded', (page) => {
      it('shows who serves', async () => {
        const { stdout } = await page.run('Find it');
        expect(stdout).toContain('"version"');
        expect(stdout).toMatch(/control@/);
      });

      it.each(['api', 'control-worker', 'host-worker'] as const)(
        'ends the %s, and another takes its place',
        async (name) => {
          const [vm, before] = [await machineOf(tier, sandbox.id), await readCounter(api, sandbox.id)];
          const old = await processOf(tier, name);
          await page.run('Do', { PID: String(old.pid) });
          await succeeded(tier, name, old);
          const after = await eventually('the guest is reached again', () =>
            readCounter(api, sandbox.id).catch(() => undefined),
          );
          expect(after.process).toBe(before.process);
          expect(after.count).toBeGreaterThan(before.count);
          expect(await machineOf(tier, sandbox.id)).toEqual(vm);
        },
      );

      it('leaves nothing behind', async () => {
        const { stdout } = await page.run('Do', {}, 1);
        expect(stdout).toMatch(new RegExp(`^${sandbox.id} +running`, 'm'));
        expect(stdout).toMatch(/: nothing found$/m);
        await api.pause(sandbox.id);
        expect(await api.resume(sandbox.id)).toMatchObject({ state: 'running' });
      });
    });
  },
  { restarts: true },
);
