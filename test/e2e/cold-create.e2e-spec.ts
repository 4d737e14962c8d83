import { beforeAll, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

/** When the kernel came to its first program, in microseconds: no two boots are alike. */
const BOOT = "dmesg | grep -m 1 'Run /init'";
const ROOT = { user: 'root' };

/** Beside a warm one, so that what is looked at tells the two apart. */
describeOnPlatform('a cold create', ({ api }) => {
  let cold: SandboxDto;
  let bigger: SandboxDto;
  let warm: SandboxDto;

  beforeAll(async () => {
    [cold, bigger, warm] = await Promise.all([
      api.create({ cold: true, env: { HOW: 'cold' } }),
      api.create({ memory_mb: 320 }),
      api.create(),
    ]);
  }, 180_000);

  const how = async (id: string) => (await api.events(id)).find(({ type }) => type === 'create.started')?.data['boot'];

  it('boots its own kernel where a warm one goes on with the boot of its template', async () => {
    const boots = await Promise.all([cold, bigger, warm].map(({ id }) => api.sh(id, BOOT, ROOT)));
    expect(new Set(boots).size).toBe(3);
    const alike = await api.create();
    expect(await api.sh(alike.id, BOOT, ROOT)).toBe(boots[2]);
    expect(await how(cold.id)).toMatchObject({ kind: 'cold' });
    expect(await how(warm.id)).toMatchObject({ kind: 'build' });
  });

  it('is what a size without a warm snapshot gets', async () => {
    expect(bigger).toMatchObject({ state: 'running', memory_mb: 320 });
    expect(await how(bigger.id)).toMatchObject({ kind: 'cold' });
    const total = Number(await api.sh(bigger.id, `awk '/MemTotal/ { print $2 }' /proc/meminfo`));
    const usual = Number(await api.sh(warm.id, `awk '/MemTotal/ { print $2 }' /proc/meminfo`));
    expect(total - usual).toBeGreaterThan(50 * 1024);
  });

  it('can do all that a warm one can', async () => {
    expect(await api.sh(cold.id, 'echo "$HOW" > file; sync; whoami')).toBe('user');
    await api.pause(cold.id);
    await api.resume(cold.id);
    expect(await api.sh(cold.id, 'cat file')).toBe('cold');
  });
});
