import { describe, expect, it } from '@jest/globals';
import { edgeTarget, isForGuest } from './edge-target.js';

const ID = 'abc123';
const at = (url: string, port?: string): string =>
  edgeTarget({ 'e2b-sandbox-id': ID, ...(port === undefined ? {} : { 'e2b-sandbox-port': port }) }, url).kind;

describe('edge target', () => {
  it('is told by the header alone', () => {
    expect(isForGuest({ 'e2b-sandbox-id': ID })).toBe(true);
    expect(isForGuest({ host: 'x' })).toBe(false);
  });

  it('is the agent unless a port is named', () => {
    expect(edgeTarget({ 'e2b-sandbox-id': ID }, '/files')).toEqual({ kind: 'guest', sandboxId: ID, port: 49_983 });
    expect(edgeTarget({ 'e2b-sandbox-id': ID, 'e2b-sandbox-port': '80' }, '/')).toMatchObject({ port: 80 });
  });

  it.each(['A', 'a-b', '', 'a/../b', 'x'.repeat(41)])('refuses %j as an id', (id) => {
    expect(edgeTarget({ 'e2b-sandbox-id': id }, '/').kind).toBe('malformed');
  });

  it.each(['0', '65536', '-1', '80x', '', '080'])('refuses %j as a port', (port) => {
    expect(at('/', port)).toBe('malformed');
  });

  it.each([
    '/init',
    '//init',
    '/./init',
    '/a/../init',
    '/%69nit',
    '/%2569nit',
    '/init/',
    '/init?x',
    '/torpor.guest.v1.Guest/Quiesce',
    '/a/%2e%2e/torpor.guest.v1.Guest/x',
    '/\\init',
  ])('hides %s of the agent', (url) => {
    expect(at(url)).toBe('hidden');
  });

  it('hides nothing of other ports, and nothing else of the agent', () => {
    expect(at('/init', '3000')).toBe('guest');
    for (const url of ['/initial', '/files?path=/init', '/process.Process/Start', '/x/init', '/%'])
      expect(at(url)).toBe('guest');
  });
});
