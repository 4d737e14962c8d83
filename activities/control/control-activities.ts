import { createBuildActivities } from './build.activities.js';
import { createClaimActivities } from './claim.activities.js';
import type { ControlActivities } from './contract.js';
import { translatingFailures } from './failure.js';
import { createHostLeaseActivities } from './host-lease.activities.js';
import { createOrphanActivities, ORPHAN_GRACE_SECONDS } from './orphans.activities.js';
import type { ControlStore, ControlTemporal } from './ports.js';
import { createRecoveryActivities } from './recovery.activities.js';
import { createRepairActivities } from './repair.activities.js';
import { createSettleActivities } from './settle.activities.js';
import { createSurveyActivities } from './survey.activities.js';
import { createTtlActivities } from './ttl.activities.js';

/** All activities of the control worker; every error that leaves one is translated for Temporal. */
export function createControlActivities(
  store: ControlStore,
  temporal: ControlTemporal,
  now: () => Date = () => new Date(),
  orphanGraceSeconds = ORPHAN_GRACE_SECONDS,
): ControlActivities {
  return translatingFailures<ControlActivities>({
    ...createClaimActivities(store, now),
    ...createRecoveryActivities(store, now),
    ...createSettleActivities(store, temporal, now),
    ...createTtlActivities(store, temporal),
    ...createBuildActivities(store, now),
    ...createHostLeaseActivities(store),
    ...createSurveyActivities(store, temporal),
    ...createRepairActivities(store, temporal, now),
    ...createOrphanActivities(store, orphanGraceSeconds),
  });
}
