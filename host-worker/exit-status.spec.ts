import { describe, expect, it } from '@jest/globals';
import { DomainError } from '../workflows/contract/errors.js';
import { readConfig } from './config.js';
import { CommandError } from './exec.js';
import { exitStatusOf, lastWords } from './exit-status.js';
import { StartError } from './start-error.js';

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (err) {
    return err;
  }
  throw new Error('nothing was thrown');
}

describe('the end of a worker', () => {
  it.each([
    ['an environment that is wrong', thrownBy(() => readConfig({ TORPOR_QEMU_ACCEL: 'warp' }))],
    ['a directory that another worker has', new StartError('another host worker (pid 7) uses /x')],
    ['a missing registration token', new DomainError('unauthorized', 'set TORPOR_REGISTRATION_TOKEN')],
    ['a driver that cannot work here', new DomainError('unsupported', 'no /dev/net/tun')],
  ])('for %s is one that no restart mends, told without a stack', (_, err) => {
    expect(exitStatusOf(err)).toBe(78);
    expect(lastWords(err)).toBe((err as Error).message);
  });

  it.each([
    ['a command that failed', new CommandError(['nft'], { exitCode: 1, signal: null, stderr: '', timedOut: false })],
    ['a machine that is in trouble', new DomainError('disk_full', 'no space')],
    ['a control plane that is away', new DomainError('control_plane_unavailable', 'refused')],
    ['a bug', new TypeError('x is undefined')],
  ])('for %s may be mended by another start', (_, err) => {
    expect(exitStatusOf(err)).toBe(1);
  });

  it('shows where a bug is', () => {
    expect(lastWords(new TypeError('x is undefined'))).toContain('exit-status.spec');
  });
});
