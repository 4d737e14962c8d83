import { createBuildActivities } from './build.activities.js';
import { createClaimActivities } from './claim.activities.js';
import type { ControlActivities } from './contract.js';
import { translatingFailures } from './failure.js';
import type { ControlStore, ControlTemporal } from './ports.js';
import { createSettleActivities } from './settle.activities.js';
import { createTtlActivities } from './ttl.activities.js';

/** All activities of the control worker; every error that leaves one is translated for Temporal. */
export function createControlActivities(
  store: ControlStore,
  temporal: ControlTemporal,
  now: () => Date = () => new Date(),
): ControlActivities {
  return translatingFailures<ControlActivities>({
    ...createClaimActivities(store, now),
    ...createSettleActivities(store, temporal, now),
    ...createTtlActivities(store, temporal),
    ...createBuildActivities(store, now),
  });
}
