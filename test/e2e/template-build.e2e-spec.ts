import { beforeAll, expect, it } from '@jest/globals';
import type { BuildDto, TemplateDto } from '../../api/template/template.dto.js';
import { eventually } from '../support/e2e-eventually.js';
import { TEMPLATE } from '../support/e2e-template.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const SIZE = { vcpus: TEMPLATE.vcpus, memory_mb: TEMPLATE.memory_mb };

const SETUP = [
  'echo greetings > /etc/greeting',
  'id -un; echo "to stderr" >&2',
  'setsid sleep 7654 < /dev/null > /dev/null 2>&1 & echo $! > /run/of-the-build',
];

describeOnPlatform('a template build', ({ api, stranger }) => {
  let ready: BuildDto;
  let failed: BuildDto;
  let cancelled: BuildDto;

  const start = async (body: object): Promise<BuildDto> => {
    const answer = await api.ask<BuildDto>('POST', '/v1/templates/builds', { body: { ...SIZE, ...body } });
    expect([answer.status, answer.body.state]).toEqual([202, 'running']);
    return answer.body;
  };
  const current = (id: string) => api.get<BuildDto>(`/v1/templates/builds/${id}`);
  const ended = (id: string) =>
    eventually(`build ${id} ends`, async () => {
      const build = await current(id);
      return build.state === 'running' ? undefined : build;
    });
  const logOf = (id: string, offset = 0) => api.get<string>(`/v1/templates/builds/${id}/log?offset=${offset}`);

  beforeAll(async () => {
    // Together: each boots a machine of its own.
    [ready, failed, cancelled] = await Promise.all([
      start({ template: 'greeter', setup: SETUP }),
      start({ template: 'broken', setup: ['echo before', 'echo "this is why"; exit 3', 'echo never'] }),
      start({ template: 'endless', setup: ['echo begun', 'sleep 3600'] }),
    ]);
  }, 120_000);

  it('that is cancelled ends, keeping nothing but its log', async () => {
    await eventually('its second command runs', async () =>
      (await current(cancelled.id)).step === 1 ? true : undefined,
    );
    const { status } = await api.ask('POST', `/v1/templates/builds/${cancelled.id}/cancel`);
    expect(status).toBe(202);
    expect(await ended(cancelled.id)).toMatchObject({ state: 'cancelled', artefact: null });
    expect(await logOf(cancelled.id)).toContain('begun');
    expect((await api.ask('POST', `/v1/templates/builds/${cancelled.id}/cancel`)).status).toBe(202);
  });

  it('whose command fails tells which, and its log tells why', async () => {
    const build = await ended(failed.id);
    expect(build).toMatchObject({
      state: 'failed',
      step: 2,
      steps: 3,
      failure: { code: 'guest_failed' },
    });
    expect(build.failure?.message).toContain('set-up command 2 of 3 exited with 3');
    const log = await logOf(failed.id);
    expect(log).toContain('$ echo before\nbefore\n[exit 0');
    expect(log).toContain('this is why\n[exit 3');
    expect(log).not.toContain('never');
    const refusal = await api.refused('POST', '/v1/sandboxes?wait=true', { body: { template: 'broken' } });
    expect(refusal).toMatchObject({ status: 503, code: 'no_hosts_available' });
  });

  it('that succeeds has run its commands as root, in order, and is warm', async () => {
    const build = await ended(ready.id);
    expect(build).toMatchObject({ state: 'ready', step: 3, steps: 3, failure: null, ...SIZE, setup: SETUP });
    expect(build.artefact?.memory_bytes).toBeGreaterThan(1024 * 1024);
    expect(build.temporal_url).toContain(build.run_id);
    const log = await logOf(ready.id);
    expect(log).toContain('\nroot\nto stderr\n');
    expect(log.match(/^\[exit 0 after \d+ ms\]$/gm)).toHaveLength(3);
    const offset = log.indexOf('root');
    expect(await logOf(ready.id, offset)).toBe(log.slice(offset));
    const { items } = await api.get<{ items: TemplateDto[] }>('/v1/templates');
    const template = items.find(({ name }) => name === 'greeter');
    expect(template).toMatchObject({ scope: 'team', ...SIZE, warm: [{ build_id: ready.id, ...SIZE }] });
  });

  it('gives its sandboxes its files, and the programs that it left running', async () => {
    const made = await Promise.all([1, 2].map(() => api.create({ template: 'greeter' })));
    for (const { id, template } of made) {
      expect(template).toBe('greeter');
      expect(await api.sh(id, 'cat /etc/greeting; ps -o args= -p "$(cat /run/of-the-build)"')).toBe(
        'greetings\nsleep 7654',
      );
    }
    const cold = await api.create({ template: 'greeter', cold: true });
    expect(await api.sh(cold.id, 'cat /etc/greeting; ls /run/of-the-build 2> /dev/null | wc -l')).toBe('greetings\n0');
  });

  it('is nobody else’s', async () => {
    const { items } = await stranger.get<{ items: TemplateDto[] }>('/v1/templates');
    expect(items.map(({ name }) => name)).toEqual(['minimal']);
    const refusal = await stranger.refused('POST', '/v1/sandboxes', { body: { template: 'greeter' } });
    expect(refusal).toMatchObject({ status: 404, code: 'not_found' });
  });

  it('cannot change what everybody starts from', async () => {
    const body = { ...SIZE, template: 'minimal', setup: ['true'] };
    const refusal = await api.refused('POST', '/v1/templates/builds', { body });
    expect(refusal).toMatchObject({ status: 400, code: 'invalid_request', details: { fields: ['template'] } });
    expect(refusal.message).toContain('minimal');
  });

  it('lists builds by template and state, newest first', async () => {
    const of = async (query: string) =>
      (await api.get<{ items: BuildDto[] }>(`/v1/templates/builds?${query}`)).items.map(({ id }) => id);
    expect(await of('template=greeter')).toEqual([ready.id]);
    expect(await of('state=failed')).toContain(failed.id);
    expect(await of('state=cancelled')).toContain(cancelled.id);
    expect(await of('state=running')).toEqual([]);
  });
});
