import { beforeAll, expect, it } from '@jest/globals';
import { readCounter, startCounter, type CounterReading } from '../support/e2e-counter.js';
import { eventually } from '../support/e2e-eventually.js';
import type { Finding, MachineSnapshot } from '../support/leak-check.js';
import { diffMachine } from '../support/leak-check.js';
import { TEMPLATE } from '../support/e2e-template.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

/** What a machine that runs has on its host, and one on disk has not. */
const OF_A_MACHINE = ['process', 'network namespace', 'link', 'nftables', 'socket'];

const FILE = '/home/user/kept.txt';

describeOnPlatform('the main job', ({ api, leaks }) => {
  let id: string;
  let before: MachineSnapshot;
  let atPause: CounterReading;
  let bootId: string;

  const kinds = (findings: readonly Finding[]) => new Set(findings.map(({ kind }) => kind));

  beforeAll(async () => {
    before = await leaks().look();
  });

  it('creates a sandbox that runs commands, with the right time though its memory was saved long ago', async () => {
    const created = await api.create({ metadata: { purpose: 'main job' } });
    id = created.id;
    expect(created).toMatchObject({
      ...TEMPLATE,
      state: 'running',
      generation: 0,
      metadata: { purpose: 'main job' },
      failure: null,
      operation: null,
    });
    expect(await api.sh(id, 'uname -s; whoami; pwd')).toBe('Linux\nuser\n/home/user');
    const { items } = await api.get<{ items: { name: string; scope: string; warm: { ready_at: string }[] }[] }>(
      '/v1/templates',
    );
    const saved =
      items.find(({ name, scope }) => name === TEMPLATE.template && scope === 'team')?.warm[0]?.ready_at ?? '';
    await startCounter(api, id);
    const { clockErrorMs } = await readCounter(api, id);
    // Otherwise a clock that stood still would pass.
    expect(Date.now() - Date.parse(saved)).toBeGreaterThan(clockErrorMs + 2_000);
    expect(clockErrorMs).toBeLessThan(2_000);
  });

  it('has a process, a namespace, a link and a rule on its host while it runs', async () => {
    const { left } = diffMachine(before, await leaks().look());
    expect([...kinds(left)]).toEqual(expect.arrayContaining(OF_A_MACHINE));
  });

  it('pauses to disk, and only files are left of it', async () => {
    bootId = await api.sh(id, `printf %s kept > ${FILE}; sync; cat /proc/sys/kernel/random/boot_id`);
    atPause = await readCounter(api, id);
    const paused = await api.pause(id);
    expect(paused).toMatchObject({ state: 'paused', operation: null, failure: null });
    expect(paused.generation).toBeGreaterThan(0);
    // The kernel takes a namespace's links apart after it has said that the namespace is deleted.
    const left = await eventually('only files are left', async () => {
      const all = diffMachine(before, await leaks().look()).left;
      expect(all.filter(({ kind }) => OF_A_MACHINE.includes(kind))).toEqual([]);
      return all;
    });
    const files = left.filter(({ kind }) => kind === 'file').map(({ what }) => what);
    expect(files).toContainEqual(
      expect.stringMatching(new RegExp(`/sandboxes/${id}/snapshots/${paused.generation}/memory$`)),
    );
    expect(files.filter((file) => !file.includes(`/sandboxes/${id}`))).toEqual([]);
  });

  it('is not reachable while it is paused, and says so', async () => {
    const refusal = await api.refused('POST', `/v1/sandboxes/${id}/exec`, { body: { command: 'true' } });
    expect(refusal).toMatchObject({ status: 409, code: 'state_conflict', details: { state: 'paused' } });
    expect(refusal.message).toContain('paused');
  });

  it('resumes where it stood: memory, processes, files and boot are the same, and the clock is right', async () => {
    expect(await api.resume(id)).toMatchObject({ state: 'running', operation: null });
    const resumed = await readCounter(api, id);
    expect(resumed.process).toBe(atPause.process);
    expect(resumed.count).toBeGreaterThanOrEqual(atPause.count);
    // It made no step while nobody ran it: one takes a tenth of a second of the guest's time at least.
    expect(resumed.count - atPause.count).toBeLessThanOrEqual((resumed.uptime - atPause.uptime) / 0.1 + 1);
    const away = resumed.hostBeforeMs - atPause.hostAfterMs;
    expect(resumed.uptime - atPause.uptime).toBeLessThan((resumed.hostAfterMs - atPause.hostBeforeMs) / 1_000);
    // A clock that was not set would be behind by as long as the sandbox was away.
    expect(resumed.clockErrorMs).toBeLessThan(Math.min(2_000, away / 2));
    expect(await api.sh(id, `cat ${FILE}; cat /proc/sys/kernel/random/boot_id`)).toBe(`kept${bootId}`);
    const later = await readCounter(api, id, `until [ "$n" -gt ${resumed.count} ]; do look; done`);
    expect(later.count).toBeGreaterThan(resumed.count);
  });

  it('tells its story in events and operations', async () => {
    const types = (await api.events(id)).map(({ type }) => type);
    const story = ['create', 'pause', 'resume'].flatMap((kind) => [`${kind}.started`, `${kind}.succeeded`]);
    expect(types.filter((type) => story.includes(type))).toEqual(story);
    const operations = await api.operations(`sandbox_id=${id}`);
    expect(operations.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      'resume succeeded',
      'pause succeeded',
      'create succeeded',
    ]);
    for (const { temporal_url, run_id } of operations) expect(temporal_url).toContain(run_id);
  });

  it('is destroyed, and nothing is left of it', async () => {
    expect(await api.destroy(id)).toMatchObject({ state: 'stopped', operation: null });
    expect((await leaks().difference(before)).report).toBe('');
    expect((await api.get<{ items: unknown[] }>('/v1/sandboxes')).items).toEqual([]);
    expect(await api.sandbox(id)).toMatchObject({ id, state: 'stopped' });
  });
});
