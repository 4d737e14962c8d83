import { describe, expect, it } from '@jest/globals';
import { DomainError } from '../../../workflows/contract/errors.js';
import { startFailure } from './start-failure.js';

const spec = {
  ...{
    vcpus: 1,
    memoryMb: 128,
    memoryFile: '/data/memory',
    disk: { path: '/dev/mapper/sbx-1', format: 'raw' as const },
  },
  network: { namespace: 'sbx-1', tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: '10.0.0.9' },
};
const refused = (why: string): DomainError =>
  new DomainError('command_failed', `Cloud Hypervisor refused vm.restore: ${why}`);

describe('why a VM did not start', () => {
  it.each([
    [
      refused('Error from memory manager: failed to fill whole buffer'),
      '',
      'snapshot_corrupt',
      /load the saved memory \/data\/memory/,
    ],
    [refused('Cannot write: No space left on device (os error 28)'), '', 'disk_full', /see `df -h`/],
    [refused('Cannot allocate memory (os error 12)'), '', 'command_failed', /out of memory; see `free -m`/],
    [
      new Error('connect ENOENT'),
      'setpriv: failed to execute ch: No such file or directory',
      'command_failed',
      /install/,
    ],
    [
      new Error('connect ENOENT'),
      'Failed to open /dev/kvm: Permission denied',
      'command_failed',
      /see `ls -l \/dev\/kvm`/,
    ],
    [refused('lock of /dev/mapper/sbx-1 is held'), '', 'command_failed', /see `lslocks`/],
  ])('is told from %s and %j', (cause, log, code, message) => {
    expect(startFailure('vm1', spec, cause, log)).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('is what it was when somebody found out already', () => {
    const cause = new DomainError('not_found', 'the disk is missing');
    expect(startFailure('vm1', spec, cause, 'whatever it printed')).toBe(cause);
  });

  it('is in the refusal rather than in what was printed before', () => {
    const failure = startFailure('vm1', spec, refused('no such tap'), 'WARN: no SMT isolation') as DomainError;
    expect(failure.message).toContain('no such tap');
    expect(failure.message).not.toContain('SMT');
  });
});
