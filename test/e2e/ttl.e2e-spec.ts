import { beforeAll, expect, it } from '@jest/globals';
import { Client, Connection } from '@temporalio/client';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import { eventually } from '../support/e2e-eventually.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const time = (text: string | null | undefined): number => Date.parse(text ?? '');

describeOnPlatform('a timeout', ({ api, tier }) => {
  let pausing: SandboxDto;
  let destroyed: SandboxDto;
  let lasting: SandboxDto;

  const becomes = (id: string, state: SandboxState) =>
    eventually(`${id} becomes ${state}`, async () => {
      const sandbox = await api.sandbox(id);
      return sandbox.state === state ? sandbox : undefined;
    });

  /** Whether somebody waits for the deadline of this sandbox. */
  async function hasKeeper(id: string): Promise<boolean> {
    const connection = await Connection.connect({ address: tier.temporalAddress });
    try {
      const { workflow } = new Client({ connection, namespace: tier.temporalNamespace });
      return await workflow
        .getHandle(ttlWorkflowId(id))
        .describe()
        .then(
          ({ status }) => status.name === 'RUNNING',
          () => false,
        );
    } finally {
      await connection.close();
    }
  }

  beforeAll(async () => {
    [pausing, destroyed, lasting] = await Promise.all([
      api.create({ timeout_seconds: 3 }),
      api.create({ timeout_seconds: 2, on_timeout: 'destroy' }),
      api.create({ timeout_seconds: 0 }),
    ]);
  }, 120_000);

  it('is not outlived by a sandbox that is idle, but by one that works', async () => {
    // Longer than the timeout: in between nothing but this program counts as use.
    const began = Date.now();
    expect(await api.sh(pausing.id, 'sleep 5; echo done')).toBe('done');
    const idleSince = Date.now();
    expect(idleSince - began).toBeGreaterThan(3_000);
    expect((await api.operations(`sandbox_id=${pausing.id}&kind=pause`)).length).toBe(0);
    const paused = await becomes(pausing.id, 'paused');
    expect(paused).toMatchObject({ timeout_seconds: 3, on_timeout: 'pause', expires_at: null });
    const [operation] = await api.operations(`sandbox_id=${pausing.id}&kind=pause`);
    // It counts from the end of the program, as the host saw it.
    expect(time(operation?.started_at)).toBeGreaterThan(began + 5_000 + 2_900);
  });

  it('destroys when that was asked for', async () => {
    expect(await becomes(destroyed.id, 'stopped')).toMatchObject({ on_timeout: 'destroy' });
    expect((await api.operations(`sandbox_id=${destroyed.id}&kind=destroy`))[0]).toMatchObject({ state: 'succeeded' });
    const started = (await api.events(destroyed.id)).find(({ type }) => type === 'destroy.started');
    expect(started?.data).toMatchObject({ reason: 'timeout' });
  });

  it('of 0 never comes', async () => {
    expect(lasting).toMatchObject({ state: 'running', timeout_seconds: 0, expires_at: null });
    expect(await hasKeeper(lasting.id)).toBe(false);
    expect(await api.ping(lasting.id)).toEqual({ expires_at: null });
  });

  it('begins anew with a resume, which may change it', async () => {
    const { body } = await api.ask<SandboxDto>('POST', `/v1/sandboxes/${pausing.id}/resume?wait=true`, {
      body: { timeout_seconds: 600 },
    });
    expect(body).toMatchObject({ state: 'running', timeout_seconds: 600 });
    expect(Math.abs(time(body.expires_at) - Date.now() - 600_000)).toBeLessThan(30_000);
    // It is armed once the caller has been told that the sandbox runs.
    await eventually('its deadline is kept', async () => ((await hasKeeper(pausing.id)) ? true : undefined));
  });

  it('is moved by a ping, and by a program', async () => {
    const { expires_at: first } = await api.sandbox(pausing.id);
    const { expires_at: second } = await api.ping(pausing.id);
    expect(time(second)).toBeGreaterThan(time(first));
    await api.sh(pausing.id, 'true');
    const { expires_at: third } = await api.sandbox(pausing.id);
    expect(time(third)).toBeGreaterThan(time(second));
  });

  it('can be set nearer, on a sandbox that its keeper has left alone until then, and off', async () => {
    expect(await api.setTimeout(pausing.id, { timeout_seconds: 0 })).toMatchObject({ expires_at: null });
    expect(await api.setTimeout(pausing.id, { timeout_seconds: 600 })).toMatchObject({ timeout_seconds: 600 });
    const set = await api.setTimeout(pausing.id, { timeout_seconds: 1, on_timeout: 'pause' });
    expect(time(set.expires_at) - Date.now()).toBeLessThan(1_500);
    expect(await becomes(pausing.id, 'paused')).toMatchObject({ timeout_seconds: 1 });
  });

  it('of a paused sandbox is stored for its next resume', async () => {
    expect(await api.setTimeout(pausing.id, { timeout_seconds: 900 })).toMatchObject({
      state: 'paused',
      timeout_seconds: 900,
      expires_at: null,
    });
    const resumed = await api.resume(pausing.id);
    expect(time(resumed.expires_at) - Date.now()).toBeGreaterThan(800_000);
  });
});
