import { describe, expect, it } from '@jest/globals';
import { nftThings } from './nft-things.js';

const ruleset = (...objects: object[]) => JSON.stringify({ nftables: [{ metainfo: { version: '1' } }, ...objects] });
const rule = (expr: unknown[], handle = 1) => ({
  rule: { family: 'inet', table: 'torpor', chain: 'in', handle, expr },
});

describe('nftThings', () => {
  it('names tables, rules and each element of a set', () => {
    const things = nftThings(
      ruleset(
        { table: { family: 'inet', name: 'torpor', handle: 3 } },
        { set: { family: 'inet', table: 'torpor', name: 'egress', type: 'ipv4_addr', elem: ['10.0.0.1', '10.0.0.2'] } },
        rule([{ drop: null }]),
      ),
    );
    expect([...things.values()]).toEqual([
      'table inet torpor',
      'set inet torpor egress {"type":"ipv4_addr"}',
      'element "10.0.0.1" of set inet torpor egress',
      'element "10.0.0.2" of set inet torpor egress',
      'rule inet torpor in {"expr":[{"drop":null}]}',
    ]);
  });

  it('does not take traffic or the numbering for a change', () => {
    const before = nftThings(ruleset(rule([{ counter: { packets: 1, bytes: 60 } }], 4)));
    const after = nftThings(ruleset(rule([{ counter: { packets: 2, bytes: 99 } }], 9)));
    expect(after).toEqual(before);
  });

  it('keeps two equal rules apart, and has nothing where there is no nftables', () => {
    expect(nftThings(ruleset(rule([]), rule([]))).size).toBe(2);
    expect(nftThings('').size).toBe(0);
  });
});
