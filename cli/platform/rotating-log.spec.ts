import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { RotatingLog } from './rotating-log.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'log-spec-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('RotatingLog', () => {
  it('starts anew when it is full, and keeps the last three', () => {
    const log = new RotatingLog(join(directory, 'x.log'), 10);
    for (let i = 1; i <= 6; i++) log.write(`line ${i}`);
    log.close();
    expect(readdirSync(directory).sort()).toEqual(['x.log', 'x.log.1', 'x.log.2', 'x.log.3']);
    expect(readFileSync(join(directory, 'x.log'), 'utf8')).toBe('line 6\n');
    expect(readFileSync(join(directory, 'x.log.3'), 'utf8')).toBe('line 3\n');
  });

  it('goes on in a file that is there', () => {
    for (const line of ['one', 'two']) {
      const log = new RotatingLog(join(directory, 'x.log'), 100);
      log.write(line);
      log.close();
    }
    expect(readFileSync(join(directory, 'x.log'), 'utf8')).toBe('one\ntwo\n');
  });
});
