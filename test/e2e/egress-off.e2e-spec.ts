import { beforeAll, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { outsideWorld } from '../conformance/network/stand-in-guest.js';
import { addressOf, reached } from '../support/e2e-guest-network.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const OUTSIDE = '203.0.113.2:8080';

describeOnPlatform('a sandbox without egress', ({ api, atEnd }) => {
  let closed: SandboxDto;
  let open: SandboxDto;

  beforeAll(async () => {
    const outside = await outsideWorld(`te2e${process.pid}`);
    atEnd(() => outside.close());
    [closed, open] = await Promise.all([api.create({ egress: false }), api.create(), outside.serve(8080)]);
  }, 120_000);

  it('does not reach what one with egress reaches', async () => {
    expect([closed.egress, open.egress]).toEqual([false, true]);
    expect(await reached(api, open.id, [OUTSIDE])).toEqual([OUTSIDE]);
    expect(await reached(api, closed.id, [OUTSIDE, `${await addressOf(open.id)}:49983`])).toEqual([]);
  });

  it('can be used all the same', async () => {
    expect(await api.sh(closed.id, 'echo works')).toBe('works');
  });

  it('does not gain it by being paused and resumed', async () => {
    await api.pause(closed.id);
    expect(await api.resume(closed.id)).toMatchObject({ egress: false });
    expect(await reached(api, closed.id, [OUTSIDE])).toEqual([]);
    expect(await reached(api, open.id, [OUTSIDE])).toEqual([OUTSIDE]);
  });
});
