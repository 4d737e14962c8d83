import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import type { ControlTemporal } from '../../activities/control/ports.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import { HostEntity } from '../../api/host/host.entity.js';
import { IdempotencyService } from '../../api/operation/idempotency.service.js';
import { OperationRepository } from '../../api/operation/operation.repository.js';
import { SandboxRepository } from '../../api/sandbox/sandbox.repository.js';
import { BuildLauncher } from '../../api/template/build-launcher.js';
import type { BuildStarter } from '../../api/template/build-starter.js';
import { TemplateBuildRepository } from '../../api/template/template-build.repository.js';
import { TemplateBuildService } from '../../api/template/template-build.service.js';
import { CreateBuildDto, type BuildDto } from '../../api/template/template.dto.js';
import { TemplateRepository } from '../../api/template/template.repository.js';
import { TemplateService } from '../../api/template/template.service.js';
import type { TemporalLinks } from '../../api/temporal/temporal-links.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { TemplateBuildInput } from '../../workflows/contract/operations.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

const ARTEFACT = { memoryBytes: 1, diskBytes: 1, hypervisor: 'qemu 7.2', cpu: 'max' };

describe('template builds in the database', () => {
  let database: TestDatabase;
  let activities: ControlActivities;
  let builds: TemplateBuildService;
  let templates: TemplateService;
  /** Builds whose run was started, whether it could begin or not. */
  let started: string[];

  beforeAll(async () => {
    database = await startDatabase();
    const { dataSource } = database;
    activities = createControlActivities(new ControlRepository(dataSource), {} as ControlTemporal);
    const [rows, names] = [new TemplateBuildRepository(dataSource), new TemplateRepository(dataSource)];
    const runs = new Map<string, Promise<unknown>>();
    // The first step of a build's run is real; the run around it is not.
    const starter = {
      start: async (input: TemplateBuildInput) => {
        // One run for ever per build.
        if (runs.has(input.buildId)) return;
        started.push(input.buildId);
        const begun = activities.beginBuild({ ...input, runId: input.buildId });
        begun.catch(() => undefined);
        runs.set(input.buildId, begun);
      },
      ended: async (buildId: string) => {
        await runs.get(buildId)?.catch((error: { type: DomainError['code']; message: string; details?: object[] }) => {
          throw new DomainError(error.type, error.message, { ...error.details?.[0] });
        });
        return new Promise<never>(() => undefined);
      },
      cancel: async () => undefined,
    } as unknown as BuildStarter;
    const launcher = new BuildLauncher(rows, names, new SandboxRepository(dataSource), starter);
    const idempotency = new IdempotencyService(new OperationRepository(dataSource));
    const links = { of: () => null } as unknown as TemporalLinks;
    builds = new TemplateBuildService(rows, names, idempotency, launcher, starter, links);
    templates = new TemplateService(names, rows);
    await dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team'), ('other', 'Other')`);
  });
  afterAll(() => database.stop());

  beforeEach(async () => {
    started = [];
    await database.dataSource.query(
      `DELETE FROM operation_requests; DELETE FROM template_builds; DELETE FROM sandbox_secrets; DELETE FROM hosts;
       DELETE FROM templates WHERE team_id <> 'platform'`,
    );
    await addHost('h1');
  });

  const addHost = (id: string): Promise<void> => insertHost(database.dataSource, id);

  async function build(body: Partial<CreateBuildDto>, teamId = 'team', key: string | null = null): Promise<BuildDto> {
    const asked = { teamId, idempotencyKey: key, waitMs: 0 };
    return (await builds.create(asked, Object.assign(new CreateBuildDto(), body))).body;
  }
  const templateIdOf = async (buildId: string): Promise<unknown> =>
    (
      await database.dataSource.query<object[]>('SELECT template_id, team_id FROM template_builds WHERE id = $1', [
        buildId,
      ])
    )[0];
  const secrets = async (): Promise<number> =>
    (await database.dataSource.query<object[]>('SELECT id FROM sandbox_secrets')).length;

  it('warms the template of the platform for everybody, and makes no other of its name', async () => {
    const { id } = await build({ template: 'minimal' });
    expect(await templateIdOf(id)).toEqual({ template_id: 'minimal', team_id: 'team' });
    await activities.finishBuild({ buildId: id, state: 'ready', artefact: ARTEFACT });
    const { items } = await templates.list('other', { limit: 50 });
    expect(items).toMatchObject([{ name: 'minimal', scope: 'platform', warm: [{ build_id: id, host_id: 'h1' }] }]);
  });

  it.each([
    ['set-up commands', { setup: ['true'] }],
    ['another image', { image: 'base' }],
  ])('keeps the names of the platform from builds with %s', async (_, body) => {
    await expect(build({ template: 'minimal', ...body })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(/template "minimal".* reserved for the platform.* choose another name/),
      details: { fields: ['template'] },
    });
    expect(started).toEqual([]);
    const { items } = await templates.list('team', { limit: 50 });
    expect(items.map(({ scope }) => scope)).toEqual(['platform']);
  });

  it('gives who asks meanwhile, of any team, the build that is under way', async () => {
    const first = await build({ template: 'minimal' });
    const second = await build({ template: 'minimal', image: 'minimal' }, 'other');
    expect(second).toMatchObject({ id: first.id, state: 'running' });
    expect(started).toEqual([first.id]);
    expect(await builds.get('other', first.id)).toMatchObject({ id: first.id });
    expect(await builds.log('other', first.id, 0)).toBe('');
    await expect(builds.cancel('other', first.id)).rejects.toMatchObject({ code: 'forbidden' });
    await builds.cancel('team', first.id);
    expect((await build({ template: 'minimal', memory_mb: 256 }, 'other')).id).not.toBe(first.id);
  });

  it('makes one of those who ask at the same moment, and leaves nothing of the others', async () => {
    const all = await Promise.all([1, 2, 3].map(() => build({ template: 'minimal' })));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(await secrets()).toBe(1);
    const [row] = await database.dataSource.query<{ count: string }[]>('SELECT count(*) FROM template_builds');
    expect(row).toEqual({ count: '1' });
  });

  it('answers a key the same after the build that it was given has ended', async () => {
    const first = await build({ template: 'minimal' });
    const joined = await build({ template: 'minimal' }, 'other', 'key');
    expect(joined.id).toBe(first.id);
    await activities.finishBuild({ buildId: first.id, state: 'ready', artefact: ARTEFACT });
    expect(await build({ template: 'minimal' }, 'other', 'key')).toMatchObject({ id: first.id, state: 'ready' });
  });

  it('makes one on each host that can', async () => {
    await addHost('h2');
    const [first, second, third] = [
      await build({ template: 'minimal' }),
      await build({ template: 'minimal' }),
      await build({ template: 'minimal' }),
    ];
    expect([first.host_id, second.host_id].toSorted()).toEqual(['h1', 'h2']);
    expect([first.id, second.id]).toContain(third.id);
    expect(started).toHaveLength(2);
  });

  it('leaves builds of teams alone: theirs are theirs', async () => {
    const [first, second] = [await build({ template: 'mine' }), await build({ template: 'mine' })];
    expect(first.id).not.toBe(second.id);
    await expect(builds.get('other', first.id)).rejects.toMatchObject({ code: 'not_found' });
    await expect(build({ template: 'theirs', image: 'base' }, 'other')).rejects.toMatchObject({
      code: 'no_hosts_available',
    });
  });

  it('shows no warm build that its host cannot restore any more', async () => {
    const { id } = await build({ template: 'minimal' });
    await activities.finishBuild({ buildId: id, state: 'ready', artefact: ARTEFACT });
    for (const change of [{ hypervisorVersion: '10.0' }, { hypervisorVersion: '7.2', cpu: 'host' }]) {
      await database.dataSource.manager.update(HostEntity, { id: 'h1' }, change);
      expect((await templates.list('team', { limit: 50 })).items).toMatchObject([{ warm: [] }]);
    }
  });
});
