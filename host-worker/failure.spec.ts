import { describe, expect, it } from '@jest/globals';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DomainError, ERRORS } from '../workflows/contract/errors.js';
import { CommandError } from './exec.js';
import { FailureInterceptor, toFailure } from './failure.js';

function commandError(stderr: string): CommandError {
  return new CommandError(['ip', 'netns', 'add', 'sbx-a'], { exitCode: 1, signal: null, stderr, timedOut: false });
}

describe('the failure of a step', () => {
  it('keeps code, details and retryability of an expected failure', () => {
    const failure = toFailure(new DomainError('snapshot_corrupt', 'sizes differ', { generation: 3 }), 'startVm', 'h1');
    expect(failure).toBeInstanceOf(ApplicationFailure);
    expect(failure).toMatchObject({
      type: 'snapshot_corrupt',
      nonRetryable: !ERRORS.snapshot_corrupt.retryable,
      message: 'startVm failed on host h1: sizes differ',
      details: [{ generation: 3 }],
    });
  });

  it('shows the command that failed and lets it be tried again', () => {
    const failure = toFailure(commandError('x\nFile exists\n'), 'setUpNetwork', 'h1');
    expect(failure).toMatchObject({ type: 'command_failed', nonRetryable: false });
    expect(failure.message).toBe(
      'setUpNetwork failed on host h1: `ip netns add sbx-a` failed with exit code 1: File exists',
    );
  });

  it.each([
    ['a system call', Object.assign(new Error('write ENOSPC'), { code: 'ENOSPC' })],
    ['a command', commandError('qemu-img: No space left on device')],
  ])('is a full disk where %s says so', (_, err) => {
    expect(toFailure(err, 'attachDisk', 'h1')).toMatchObject({ type: 'disk_full', nonRetryable: true });
  });

  it.each([
    ['EROFS', 'read-only'],
    ['EACCES', 'may not open'],
    ['ENOTDIR', 'in the place of a directory'],
    ['EMFILE', 'too many files'],
    ['ENOMEM', 'out of memory'],
  ])('is told in a sentence where the machine refuses with %s', (code, words) => {
    const err = Object.assign(new Error(`${code}: refused, open '/data/x'`), { code, path: '/data/x' });
    const failure = toFailure(err, 'snapshotVm', 'h1');
    expect(failure).toMatchObject({ type: 'command_failed', nonRetryable: false });
    expect(failure.message).toMatch(/^snapshotVm failed on host h1: \/data\/x: /);
    expect(failure.message).toContain(words);
  });

  it('keeps its code when undoing it failed as well', () => {
    const cause = new DomainError('disk_full', 'no space', { path: '/x' });
    const both = new AggregateError([cause, new Error('rm')], 'no space; could not undo "rm"', { cause });
    expect(toFailure(both, 'attachDisk', 'h1')).toMatchObject({
      type: 'disk_full',
      nonRetryable: true,
      message: 'attachDisk failed on host h1: no space; could not undo "rm"',
      details: [{ path: '/x' }],
    });
  });

  it.each([
    ['Cannot allocate memory', /out of memory; see `free -m`/],
    ['fork: Resource temporarily unavailable', /`ulimit -u`/],
    ['Read-only file system', /`findmnt`/],
    ['read error: Input/output error', /`dmesg`/],
    ['Too many open files', /`ulimit -n`/],
  ])('explains what a command printed: %s', (stderr, words) => {
    const failure = toFailure(commandError(stderr), 'attachDisk', 'h1');
    expect(failure).toMatchObject({ type: 'command_failed', message: expect.stringMatching(words) });
  });

  it('is internal and retryable when nobody expected it', () => {
    expect(toFailure(new TypeError('x is undefined'), 'killVm', 'h1')).toMatchObject({
      type: 'internal_error',
      nonRetryable: false,
    });
    expect(toFailure('thrown text', 'killVm', 'h1').message).toBe('killVm failed on host h1: thrown text');
  });

  it('does not put a whole log into the history', () => {
    const failure = toFailure(commandError('e'.repeat(100_000)), 'killVm', 'h1') as ApplicationFailure;
    expect(JSON.stringify(failure.details).length).toBeLessThan(4_000);
  });

  it('leaves a cancellation what it is', async () => {
    const cancelled = new CancelledFailure('cancelled');
    const interceptor = new FailureInterceptor('h1');
    const run = new MockActivityEnvironment().run(() =>
      interceptor.execute({ args: [], headers: {} }, () => Promise.reject(cancelled)),
    );
    await expect(run).rejects.toBe(cancelled);
  });
});
