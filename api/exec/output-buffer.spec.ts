import { describe, expect, it } from '@jest/globals';
import { OutputBuffer } from './output-buffer.js';

const bytes = (text: string): Buffer => Buffer.from(text);

describe('output of a program', () => {
  it('is text where both streams are', () => {
    const output = new OutputBuffer(100);
    output.append('stdout', bytes('gr\u{fc}\u{df}'));
    output.append('stderr', bytes('\u{feff}warn'));
    expect(output.encode()).toEqual({ stdout: 'gr\u{fc}\u{df}', stderr: '\u{feff}warn', encoding: 'utf-8' });
    expect(output.truncated).toBe(false);
  });

  it('joins characters that came in two pieces', () => {
    const output = new OutputBuffer(100);
    for (const byte of bytes('\u{1f600}')) output.append('stdout', Uint8Array.of(byte));
    expect(output.encode().stdout).toBe('\u{1f600}');
  });

  it('is base64 for both when either is no text', () => {
    const output = new OutputBuffer(100);
    output.append('stdout', Uint8Array.of(0xff, 0x00));
    output.append('stderr', bytes('text'));
    expect(output.encode()).toEqual({ stdout: '/wA=', stderr: 'dGV4dA==', encoding: 'base64' });
  });

  it('keeps the first bytes of both streams together and stays text where a character is cut', () => {
    const output = new OutputBuffer(4);
    output.append('stdout', bytes('abc'));
    output.append('stderr', bytes('\u{fc}'));
    output.append('stdout', bytes('more'));
    expect(output.truncated).toBe(true);
    expect(output.encode()).toEqual({ stdout: 'abc', stderr: '', encoding: 'utf-8' });
  });
});
