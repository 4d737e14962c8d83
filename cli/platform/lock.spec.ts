import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { acquireLock, lockHolder } from './lock.js';
import { identityOf, isAlive, type ProcessIdentity } from './process-identity.js';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lock-spec-'));
  file = join(directory, 'lock');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const own = (): ProcessIdentity => {
  const identity = identityOf(process.pid);
  if (identity === undefined) throw new Error('no /proc');
  return identity;
};

describe('acquireLock', () => {
  it('takes a free lock, names its holder and frees it', () => {
    const lock = acquireLock(file);
    expect(lockHolder(file)?.pid).toBe(process.pid);
    lock.release();
    expect(readdirSync(directory)).toEqual([]);
  });

  it('refuses a lock whose holder lives, naming it', () => {
    acquireLock(file);
    expect(() => acquireLock(file)).toThrow(`process ${process.pid} holds ${file}`);
    expect(readdirSync(directory)).toEqual(['lock']);
  });

  it.each([
    ['a process that ended', { pid: 2 ** 22 + 1 }],
    ['a pid that somebody else has now', { startTime: '1' }],
    ['a process of an earlier boot', { bootId: 'another' }],
  ])('takes over from %s', (_, difference) => {
    writeFileSync(file, JSON.stringify({ ...own(), ...difference }));
    acquireLock(file);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(own());
    expect(readdirSync(directory)).toEqual(['lock']);
  });

  it.each(['', '{"pid":', '[]', 'null'])('takes over a lock that is no lock: %j', (content) => {
    writeFileSync(file, content);
    acquireLock(file);
    expect(lockHolder(file)?.pid).toBe(process.pid);
  });

  it('does not free a lock that somebody else has taken meanwhile', () => {
    const lock = acquireLock(file);
    writeFileSync(file, JSON.stringify({ ...own(), pid: 1 }));
    lock.release();
    expect(readdirSync(directory)).toEqual(['lock']);
  });
});

describe('isAlive', () => {
  it('knows this process, and no other with its pid', () => {
    expect(isAlive(own())).toBe(true);
    expect(isAlive({ ...own(), startTime: '0' })).toBe(false);
    expect(isAlive({ ...own(), pid: 2 ** 22 + 1 })).toBe(false);
  });
});
