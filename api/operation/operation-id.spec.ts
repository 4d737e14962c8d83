import { describe, expect, it } from '@jest/globals';
import { ID_PATTERN } from '../../workflows/contract/ids.js';
import { derivedId } from '../../activities/control/derived-id.js';
import { hashOf, operationIdOf, randomId, sandboxIdOf } from './operation-id.js';

describe('operation ids', () => {
  it('are 20 characters that fit a host name, random or derived', () => {
    const ids = [randomId(), randomId(), operationIdOf('team', 'route', 'key'), sandboxIdOf('op'), derivedId('')];
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) {
      expect(id).toHaveLength(20);
      expect(id).toMatch(ID_PATTERN);
    }
  });

  it('are the same for the same team, route and key, and for nothing else', () => {
    const id = operationIdOf('team', 'route', 'key');
    expect(operationIdOf('team', 'route', 'key')).toBe(id);
    expect(operationIdOf('other', 'route', 'key')).not.toBe(id);
    expect(operationIdOf('team', 'other', 'key')).not.toBe(id);
    expect(operationIdOf('team', 'route', 'other')).not.toBe(id);
    expect(operationIdOf('team', 'rou', 'tekey')).not.toBe(operationIdOf('team', 'route', 'key'));
  });

  it('do not depend on the order in which a body names its fields', () => {
    expect(hashOf({ a: 1, b: { c: [1, 2], d: undefined } })).toBe(hashOf({ b: { c: [1, 2] }, a: 1 }));
    expect(hashOf({ a: [1, 2] })).not.toBe(hashOf({ a: [2, 1] }));
    expect(hashOf({ a: '1' })).not.toBe(hashOf({ a: 1 }));
  });
});
