import { beforeEach, describe, expect, it } from '@jest/globals';
import type { TemporalControl } from '../control/temporal-control.js';
import type { HostDataPlane } from '../host/host-data-plane.js';
import type { SandboxView } from './sandbox-view.js';
import { SandboxUseService } from './sandbox-use.service.js';
import type { SandboxEntity } from './sandbox.entity.js';
import type { SandboxRepository } from './sandbox.repository.js';

const IN_AN_HOUR = new Date(Date.now() + 3_600_000);

describe('the timeout of a sandbox that runs', () => {
  let before: Partial<SandboxEntity>;
  let told: string[];

  beforeEach(() => {
    before = { id: 's1', state: 'running', onTimeout: 'pause', timeoutSeconds: 3600, expiresAt: IN_AN_HOUR };
    told = [];
  });

  async function set(seconds: number): Promise<string[]> {
    const expiresAt = seconds === 0 ? null : new Date(Date.now() + seconds * 1000);
    const sandboxes = {
      find: async () => before,
      setTimeout: async () => ({ ...before, timeoutSeconds: seconds, expiresAt }),
    } as unknown as SandboxRepository;
    const temporal = {
      armKeeper: async () => void told.push('arm'),
      wakeKeeper: async () => void told.push('wake'),
    } as unknown as TemporalControl;
    const view = { one: async () => ({}) } as unknown as SandboxView;
    await new SandboxUseService(sandboxes, view, {} as HostDataPlane, temporal).setTimeout('team', 's1', {
      timeout_seconds: seconds,
    });
    return told;
  }

  it('reaches a keeper that would sleep past it', async () => {
    expect(await set(60)).toEqual(['arm']);
  });

  it('is read in time by a keeper that wakes earlier', async () => {
    expect(await set(7200)).toEqual([]);
  });

  it('leaves no keeper behind when it is taken away, asked once or twice', async () => {
    expect(await set(0)).toEqual(['wake']);
    before = { ...before, timeoutSeconds: 0, expiresAt: null };
    expect(await set(0)).toEqual(['wake', 'wake']);
  });
});
