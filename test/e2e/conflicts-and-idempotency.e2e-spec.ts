import { beforeAll, describe, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { eventually } from '../support/e2e-eventually.js';
import { describeOnPlatform } from '../support/e2e-suite.js';
import { TEMPLATE } from '../support/e2e-template.js';

const { template } = TEMPLATE;
const REPLAYED = 'idempotency-replayed';

describeOnPlatform('requests that meet', ({ api, stranger }) => {
  let first: SandboxDto;
  let second: SandboxDto;

  beforeAll(async () => {
    [first, second] = await Promise.all([api.create(), api.create()]);
  }, 120_000);

  describe('a request that is sent twice', () => {
    const headers = { 'idempotency-key': `create ${process.pid}` };
    const body = { template, metadata: { sent: 'twice' } };
    let made: SandboxDto;

    it('makes one sandbox, also when both are under way at once', async () => {
      const path = '/v1/sandboxes?wait=true';
      const [one, two] = await Promise.all([1, 2].map(() => api.ask<SandboxDto>('POST', path, { body, headers })));
      expect([one?.status, two?.status]).toEqual([201, 201]);
      expect(one?.body.id).toBe(two?.body.id);
      made = one?.body ?? first;
      expect((await api.get<{ items: unknown[] }>('/v1/sandboxes?metadata[sent]=twice')).items).toHaveLength(1);
    });

    it('is told that it came again', async () => {
      const {
        status,
        headers: answered,
        body: again,
      } = await api.ask<SandboxDto>('POST', '/v1/sandboxes', { body, headers });
      expect([status, answered.get(REPLAYED), again.id]).toEqual([202, 'true', made.id]);
    });

    it('is refused when it asks for something else under the same key', async () => {
      const refusal = await api.refused('POST', '/v1/sandboxes', {
        body: { template, metadata: { sent: 'thrice' } },
        headers,
      });
      expect(refusal).toMatchObject({ status: 422, code: 'idempotency_key_reused' });
      expect(refusal.message).toContain(headers['idempotency-key']);
    });

    it('does not meet the key of another team', async () => {
      const { body: unseen } = await stranger.ask<{ items: unknown[] }>('GET', '/v1/sandboxes');
      expect(unseen.items).toEqual([]);
      const refusal = await stranger.refused('POST', '/v1/sandboxes', { body: { template: 'not-there' }, headers });
      expect(refusal).toMatchObject({ status: 404, code: 'not_found' });
    });

    it('joins itself while it is under way', async () => {
      const { id } = await api.create();
      const question = { headers: { 'idempotency-key': 'pause under way' } };
      const path = `/v1/sandboxes/${id}/pause?wait=true`;
      const once = api.ask<SandboxDto>('POST', path, question);
      await eventually('the pause is under way', async () => (await api.operations(`sandbox_id=${id}&kind=pause`))[0]);
      const again = await api.ask<SandboxDto>('POST', path, question);
      expect([again.status, again.body.state]).toEqual([200, 'paused']);
      expect([(await once).status, (await once).body.state]).toEqual([200, 'paused']);
      expect(await api.operations(`sandbox_id=${id}&kind=pause`)).toHaveLength(1);
      await api.destroy(id);
    });

    it('pauses once, and answers the same when it is over', async () => {
      const question = { headers: { 'idempotency-key': 'pause' } };
      const path = `/v1/sandboxes/${made.id}/pause?wait=true`;
      const once = await api.ask<SandboxDto>('POST', path, question);
      const again = await api.ask<SandboxDto>('POST', path, question);
      expect([once.status, once.headers.get(REPLAYED), once.body.state]).toEqual([200, null, 'paused']);
      expect([again.status, again.headers.get(REPLAYED), again.body.state]).toEqual([200, 'true', 'paused']);
      expect(await api.operations(`sandbox_id=${made.id}&kind=pause`)).toHaveLength(1);
    });

    it('destroys once', async () => {
      const question = { headers: { 'idempotency-key': 'destroy' } };
      const path = `/v1/sandboxes/${made.id}?wait=true`;
      for (const _ of [1, 2]) expect((await api.ask('DELETE', path, question)).status).toBe(200);
      expect(await api.operations(`sandbox_id=${made.id}&kind=destroy`)).toHaveLength(1);
    });
  });

  it('of pauses at the same time one wins, and the others are told which', async () => {
    const path = `/v1/sandboxes/${first.id}/pause`;
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => api.ask<{ operation?: { id: string } }>('POST', path)),
    );
    const won = answers.filter(({ status }) => status === 202);
    expect(won).toHaveLength(1);
    const [pause] = await api.operations(`sandbox_id=${first.id}&kind=pause`);
    expect(won[0]?.body.operation?.id).toBe(pause?.id);
    for (const { status, body } of answers.filter((answer) => !won.includes(answer))) {
      expect(status).toBe(409);
      expect(body).toMatchObject({
        error: { code: 'operation_in_progress', details: { operation: { id: pause?.id, kind: 'pause' } } },
      });
      expect(JSON.stringify(body)).toContain(`pause ${pause?.id}`);
    }
  });

  it('a resume does not join a pause', async () => {
    const refusal = await api.refused('POST', `/v1/sandboxes/${second.id}/resume`);
    expect(refusal).toMatchObject({ status: 409, code: 'state_conflict', details: { state: 'running' } });
    await api.start(second.id, 'pause');
    const inTheWay = await api.refused('POST', `/v1/sandboxes/${second.id}/resume`);
    expect(inTheWay).toMatchObject({
      status: 409,
      code: 'operation_in_progress',
      details: { operation: { kind: 'pause' } },
    });
  });

  it('resumes at the same time are one', async () => {
    await expectPaused(second.id);
    const path = `/v1/sandboxes/${second.id}/resume?wait=true`;
    const answers = await Promise.all(Array.from({ length: 4 }, () => api.ask<SandboxDto>('POST', path)));
    expect(answers.map(({ status, body }) => [status, body.state])).toEqual(Array(4).fill([200, 'running']));
    expect(await api.operations(`sandbox_id=${second.id}&kind=resume`)).toHaveLength(1);
    expect(await api.sh(second.id, 'echo works')).toBe('works');
  });

  it('a destroy takes over from a pause, which turns back', async () => {
    const { operation } = await api.start(second.id, 'pause');
    expect(await api.destroy(second.id)).toMatchObject({ state: 'stopped' });
    expect(await api.operation(operation?.id ?? '')).toMatchObject({ kind: 'pause', state: 'cancelled' });
    const [destroy] = await api.operations(`sandbox_id=${second.id}`);
    expect(destroy).toMatchObject({ kind: 'destroy', state: 'succeeded' });
  });

  it('a destroy takes over from a create', async () => {
    const { body } = await api.ask<SandboxDto>('POST', '/v1/sandboxes', { body: { template } });
    expect(await api.destroy(body.id)).toMatchObject({ state: 'stopped' });
    expect((await api.operations(`sandbox_id=${body.id}&kind=create`))[0]?.state).toBe('cancelled');
  });

  it('destroys at the same time are one', async () => {
    const path = `/v1/sandboxes/${first.id}?wait=true`;
    const answers = await Promise.all(Array.from({ length: 4 }, () => api.ask<SandboxDto>('DELETE', path)));
    expect(answers.map(({ status, body }) => [status, body.state])).toEqual(Array(4).fill([200, 'stopped']));
    expect(await api.operations(`sandbox_id=${first.id}&kind=destroy`)).toHaveLength(1);
  });

  /** Waits for the pause that is under way. */
  async function expectPaused(id: string): Promise<void> {
    const [pause] = await api.operations(`sandbox_id=${id}&kind=pause`);
    await eventually('the pause ends', async () =>
      (await api.operation(pause?.id ?? '')).state === 'succeeded' ? true : undefined,
    );
    expect((await api.sandbox(id)).state).toBe('paused');
  }
});
