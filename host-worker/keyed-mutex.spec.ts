import { describe, expect, it } from '@jest/globals';
import { KeyedMutex } from './keyed-mutex.js';

describe('KeyedMutex', () => {
  it('runs work of one key in turn and of several side by side', async () => {
    const mutex = new KeyedMutex();
    const events: string[] = [];
    let release = (): void => undefined;
    const held = mutex.runExclusive('a', () => new Promise<void>((resolve) => (release = resolve)));
    const waiting = mutex.runExclusive('a', async () => void events.push('second a'));
    await mutex.runExclusive('b', async () => void events.push('b'));
    expect(events).toEqual(['b']);
    release();
    await Promise.all([held, waiting]);
    expect(events).toEqual(['b', 'second a']);
  });

  it('goes on after work that failed', async () => {
    const mutex = new KeyedMutex();
    await expect(mutex.runExclusive('a', () => Promise.reject(new Error('broke')))).rejects.toThrow('broke');
    expect(await mutex.runExclusive('a', async () => 1)).toBe(1);
  });
});
