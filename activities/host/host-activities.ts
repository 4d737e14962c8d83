import { buildSteps } from './build-steps.js';
import { clearingStep } from './clearing-step.js';
import { closingSteps } from './closing-steps.js';
import type { HostActivities } from './contract.js';
import { diskSteps } from './disk-steps.js';
import { guestSteps } from './guest-steps.js';
import { inspectionStep } from './inspection-step.js';
import { networkSteps } from './network-steps.js';
import type { HostPorts } from './ports.js';
import { snapshotSteps } from './snapshot-steps.js';
import { type HostStepOptions, StepRunner } from './step-runner.js';
import { vmSteps } from './vm-steps.js';

/** All steps of a host over its ports, ready to be registered with a worker. */
export function createHostActivities(ports: HostPorts, options?: HostStepOptions): HostActivities {
  const runner = new StepRunner(ports, options);
  return {
    ...networkSteps(runner),
    ...diskSteps(runner),
    ...vmSteps(runner),
    ...guestSteps(runner),
    ...snapshotSteps(runner),
    ...buildSteps(runner),
    ...closingSteps(runner),
    ...inspectionStep(runner),
    ...clearingStep(runner),
  };
}
