import { describe, expect, it } from '@jest/globals';
import { DomainError, ERRORS, isErrorCode } from './errors.js';

describe('the error table', () => {
  it.each(Object.entries(ERRORS))('%s has an HTTP error status and says what to do', (code, entry) => {
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect(entry.http).toBeGreaterThanOrEqual(400);
    expect(entry.http).toBeLessThan(600);
    expect(entry.suggestion.length).toBeGreaterThan(10);
  });

  it('knows its codes and nothing else', () => {
    expect(isErrorCode('disk_full')).toBe(true);
    expect(isErrorCode('toString')).toBe(false);
    expect(isErrorCode(undefined)).toBe(false);
  });

  it('keeps code, details and cause', () => {
    const cause = new Error('below');
    const error = new DomainError('timeout', 'above', { ms: 5 }, { cause });
    expect(error).toMatchObject({ code: 'timeout', message: 'above', details: { ms: 5 }, cause });
  });
});
