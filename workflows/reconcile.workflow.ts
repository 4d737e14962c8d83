import { setCurrentDetails } from '@temporalio/workflow';
import type { ReconcileReport } from './contract/findings.js';
import type { ReconcileInput } from './contract/operations.js';
import { control } from './control-steps.js';
import { reconcileHost, type ComparedHost, type HostReport } from './reconcile-host.js';

/** More would only queue up: all hosts are compared by the same database. */
const HOSTS_AT_ONCE = 4;

/**
 * Compares rows, open runs and what every host holds, mends what differs and tells every finding. What one run could not
 * mend the next one finds again; where all is as it should be a run finds nothing.
 */
export async function Reconcile(input: ReconcileInput): Promise<ReconcileReport> {
  const { dryRun } = input;
  const hosts = await control.surveyHosts();
  const queue: ComparedHost[] = [...hosts, { id: null, online: false }];
  const reports: HostReport[] = [];
  const failures: unknown[] = [];
  const compareNext = async (): Promise<void> => {
    for (let host = queue.shift(); host; host = queue.shift()) {
      try {
        reports.push(await reconcileHost(host, { ...input, reason: 'reconciler' }));
      } catch (err) {
        // One host's trouble is not another one's.
        failures.push(err);
      }
    }
  };
  await Promise.all(Array.from({ length: HOSTS_AT_ONCE }, compareNext));
  const report: ReconcileReport = {
    dryRun,
    hosts: { asked: hosts.length, answered: reports.filter(({ answered }) => answered).length },
    sandboxes: reports.reduce((sum, { sandboxes }) => sum + sandboxes, 0),
    findings: reports.flatMap(({ findings }) => findings),
  };
  setCurrentDetails(
    `${report.sandboxes} sandboxes compared, ${report.hosts.answered} of ${report.hosts.asked} hosts answered: ${report.findings.length} findings`,
  );
  if (failures.length > 0) throw failures[0];
  return report;
}
