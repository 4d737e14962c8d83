import { beforeAll, expect, it } from '@jest/globals';
import type { NetworkPolicyDto, SandboxNetworkDto } from '../../api/sandbox/network.dto.js';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { outsideWorld } from '../conformance/network/stand-in-guest.js';
import { reached } from '../support/e2e-guest-network.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const [ONE, OTHER] = ['203.0.113.2:8080', '203.0.113.2:8081'];
const OPEN: NetworkPolicyDto = { egress: true, allow: [], deny: [], dns: null, tx_mbps: null };
const ONLY_ONE: NetworkPolicyDto = {
  ...OPEN,
  egress: false,
  allow: [{ cidr: '203.0.113.0/24', ports: '8080', protocol: 'tcp' }],
};
const NOT_ONE: NetworkPolicyDto = { ...OPEN, deny: [{ cidr: '203.0.113.2', ports: '8080' }] };

describeOnPlatform('the network policy of a sandbox', ({ api, atEnd }) => {
  let id: string;
  const path = () => `/v1/sandboxes/${id}/network`;
  const network = () => api.get<SandboxNetworkDto>(path());
  const change = (policy: Partial<NetworkPolicyDto>, query = '?wait=true', headers: Record<string, string> = {}) =>
    api.ask<SandboxDto>('PUT', path() + query, { body: policy, headers });
  const bothReached = () => reached(api, id, [ONE, OTHER]);
  const changes = () => api.operations(`sandbox_id=${id}&kind=network`);

  beforeAll(async () => {
    const outside = await outsideWorld(`tpol${process.pid}`);
    atEnd(() => outside.close());
    const [created] = await Promise.all([api.create({ network: ONLY_ONE }), outside.serve(8080, 8081)]);
    expect(created).toMatchObject({ egress: false, network: ONLY_ONE });
    id = created.id;
  }, 120_000);

  it('holds from its create', async () => {
    expect(await bothReached()).toEqual([ONE]);
  });

  it('changes while it runs, and what was in its memory stays', async () => {
    await api.sh(id, 'echo here > /dev/shm/note');
    const answer = await change(OPEN);
    expect(answer).toMatchObject({ status: 200, body: { state: 'running', egress: true, network: OPEN } });
    expect(await bothReached()).toEqual([ONE, OTHER]);
    expect((await change(NOT_ONE)).body).toMatchObject({ state: 'running', network: NOT_ONE, operation: null });
    expect(await bothReached()).toEqual([OTHER]);
    expect(await api.sh(id, 'cat /dev/shm/note')).toBe('here');
    expect((await changes()).map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      'network succeeded',
      'network succeeded',
    ]);
  });

  it('counts what passed and what did not', async () => {
    const before = await network();
    await bothReached();
    const { policy, counters, counters_note: note } = await network();
    expect([policy, note]).toEqual([NOT_ONE, null]);
    expect(counters?.sent_bytes).toBeGreaterThan(before.counters?.sent_bytes ?? Infinity);
    expect(counters?.received_packets).toBeGreaterThan(before.counters?.received_packets ?? Infinity);
    expect(counters?.denied_packets).toBeGreaterThan(before.counters?.denied_packets ?? Infinity);
  });

  it('closes again what it opened', async () => {
    await change(OPEN);
    expect(await bothReached()).toEqual([ONE, OTHER]);
    await change({ ...OPEN, egress: false });
    expect(await bothReached()).toEqual([]);
    expect(await api.sh(id, 'echo works')).toBe('works');
  });

  it('survives pause and resume, and one that is changed while paused holds from the resume', async () => {
    await change(ONLY_ONE);
    await api.pause(id);
    expect(await network()).toEqual({
      policy: ONLY_ONE,
      counters: null,
      counters_note: 'it is paused and has no network',
    });
    await api.resume(id);
    expect(await bothReached()).toEqual([ONE]);
    await api.pause(id);
    expect(await change(NOT_ONE)).toMatchObject({ status: 200, body: { state: 'paused', network: NOT_ONE } });
    expect(await api.resume(id)).toMatchObject({ state: 'running', network: NOT_ONE });
    expect(await bothReached()).toEqual([OTHER]);
  });

  it('is changed once by one Idempotency-Key', async () => {
    const key = { 'idempotency-key': `policy-${id}` };
    const before = (await changes()).length;
    const answers = [await change(OPEN, '?wait=true', key), await change(OPEN, '?wait=true', key)];
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(answers[1]?.headers.get('idempotency-replayed')).toBe('true');
    expect(await changes()).toHaveLength(before + 1);
    expect(await change(ONLY_ONE, '?wait=true', key)).toMatchObject({ status: 422 });
  });

  it('is told in its events, and is no use of it', async () => {
    await api.setTimeout(id, { timeout_seconds: 3600 });
    const { expires_at: before } = await api.sandbox(id);
    await change(ONLY_ONE);
    expect((await api.sandbox(id)).expires_at).toBe(before);
    const events = (await api.events(id)).slice(-2);
    expect(events.map(({ type }) => type)).toEqual(['network.started', 'network.succeeded']);
    expect(events[0]?.data).toMatchObject({ network: { egress: false, allow: ONLY_ONE.allow } });
  });
});
