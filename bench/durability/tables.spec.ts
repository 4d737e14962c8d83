import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import type { DurabilityRow } from './durability-row.js';
import { rowOf } from './recovery.bench.js';
import { durabilityObject, durabilityTable, explanation, recoveryTable } from './tables.js';

const QUANTILES = { p50: 10, p95: 20.4 };
const ROW: DurabilityRow = {
  ...{ orchestrator: 'one of them', sandboxes: 60, kills: 20, kept: 57, seconds: 1 },
  ...{ lost: ['l1: forgotten', 'l2: forgotten'], duplicated: [], stuck: ['l3: pausing'], refused: ['l4: no'] },
  leaked: { vmms: 2, namespaces: 3, overlays: 4, memories: 5 },
  latency: { create: QUANTILES, pause: QUANTILES, resume: QUANTILES },
};

describe('the tables of the durability bench', () => {
  it('count what went wrong, side by side', () => {
    const line = durabilityTable([ROW]).split('\n').at(-1) ?? '';
    const latencies = ['10 / 20', '10 / 20', '10 / 20'];
    expect(line.split(/\s{2,}/)).toEqual(['one of them', '60', '20', '57', '2', '0', '1', '14', '1', ...latencies]);
    expect(durabilityObject(ROW)).toMatchObject({
      lost: ROW.lost,
      leaked: { total: 14, overlays: 4 },
      pause_p95_ms: 20.4,
    });
  });

  it('say of each what it was', () => {
    expect(explanation(ROW).split('\n')).toContain('  one of them: lost l1: forgotten');
    expect(explanation(ROW)).toContain('leaked 2 VMMs, 3 namespaces, 4 disks, 5 saved memories');
  });

  it('hold the median of the recovery times against the bar', () => {
    const endsAfter = (...all: number[]) => all.map((seconds) => ({ seconds }));
    const good = rowOf('api', 2, endsAfter(1, 2, 12));
    const bad = rowOf('host-worker', 2, endsAfter(1, 12.1, 13));
    expect(rowOf('temporal', 2, [...endsAfter(1, 2), { failed: 'pause failed' }]).met).toBe(false);
    expect([good.met, bad.met]).toEqual([true, false]);
    // Headings are in colour where a terminal, or CI, shows them.
    const lines = stripVTControlCharacters(recoveryTable([good, bad])).split('\n');
    expect(lines.map((line) => line.split(/\s+/).at(-1))).toEqual(['MET', 'yes', 'NO']);
  });
});
