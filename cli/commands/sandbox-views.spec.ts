import { describe, expect, it } from '@jest/globals';
import { addition } from './sandbox-views.js';
import { exitCode } from './sandbox-exec.js';

describe('addition', () => {
  it('is what came after what was shown', () => {
    expect(addition('', 'boot')).toBe('boot');
    expect(addition('boot', 'boot\nready')).toBe('\nready');
    expect(addition('boot', 'boot')).toBe('');
  });

  it('finds the place when the beginning has moved out of the window', () => {
    const before = `${'a'.repeat(2000)}END`;
    expect(addition(before, `${'a'.repeat(1500)}ENDnew`)).toBe('new');
  });

  it('is everything when nothing of it was shown', () => {
    expect(addition('old', 'entirely new')).toBe('entirely new');
  });
});

describe('exitCode', () => {
  it.each([
    [{ exit_code: 0, timed_out: false }, 0],
    [{ exit_code: 77, timed_out: false }, 77],
    [{ exit_code: -1, timed_out: false }, 128],
    [{ exit_code: -1, timed_out: true }, 124],
  ])('%j ends with %d', (result, code) => expect(exitCode(result)).toBe(code));
});
