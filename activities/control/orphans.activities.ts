import type { Finding, Reconciled } from '../../workflows/contract/findings.js';
import type { ControlActivities } from './contract.js';
import type { ControlStore } from './ports.js';

type OrphanActivities = Pick<ControlActivities, 'ripeOrphans' | 'recordFindings'>;

/** What nobody owns stays this long, in case the control plane, and not the host, is wrong. */
export const ORPHAN_GRACE_SECONDS = 300;

export function createOrphanActivities({ survey }: ControlStore, graceSeconds: number): OrphanActivities {
  return {
    async ripeOrphans({ findings, unknown }) {
      const [ripe, waiting]: [string[], Reconciled[]] = [[], []];
      for (const [hostId, held] of byHost(findings)) {
        const seen = await survey.rememberOrphans(hostId, [...held.keys()]);
        for (const [id, finding] of held) {
          // Remembered all the same: whoever decides about it later need not wait again.
          if (finding.kind === 'unknown' && !unknown) continue;
          const leftMs = graceSeconds * 1000 - (seen.get(id)?.ageMs ?? 0);
          if (leftMs <= 0) ripe.push(id);
          else
            waiting.push({ ...finding, outcome: 'waiting', after: { removed_in_seconds: Math.ceil(leftMs / 1000) } });
        }
      }
      return { ripe, waiting };
    },

    recordFindings: ({ runId, findings }) => survey.record(runId, findings),
  };
}

/** Of each host, what it holds and nobody owns. */
function byHost(findings: readonly Finding[]): Map<string, Map<string, Finding>> {
  const hosts = new Map<string, Map<string, Finding>>();
  for (const finding of findings) {
    const { kind, hostId, sandboxId } = finding;
    if ((kind !== 'orphan' && kind !== 'unknown') || hostId === null || sandboxId === null) continue;
    const held = hosts.get(hostId) ?? new Map<string, Finding>();
    hosts.set(hostId, held.set(sandboxId, finding));
  }
  return hosts;
}
