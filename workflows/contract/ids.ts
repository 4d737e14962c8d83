/**
 * Names that every process derives from an id alone. Whoever holds the id of a
 * sandbox can find its workflow, its queue and its traces on a host without asking.
 */

/** Queue of the control workers: all workflows, and the activities that touch Postgres. */
export const CONTROL_QUEUE = 'control';

/** Shape of sandbox, build and operation ids. No dash: the edge splits host labels on it. */
export const ID_PATTERN = /^[a-z0-9]{1,40}$/;

/** Shape of template names. */
export const TEMPLATE_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Queue that only the worker of this host serves. */
export function hostQueue(hostId: string): string {
  return `host-${hostId}`;
}

/** One open run per sandbox: the server's uniqueness of this id is the lifecycle lock. */
export function sandboxWorkflowId(sandboxId: string): string {
  return `sandbox/${sandboxId}`;
}

/** Keeper of a running sandbox's timeout. */
export function ttlWorkflowId(sandboxId: string): string {
  return `sandbox-ttl/${sandboxId}`;
}

/** One run for ever per build: a build id is never reused. */
export function buildWorkflowId(buildId: string): string {
  return `template-build/${buildId}`;
}

/** Keeper of a host's lease: says when the host is lost and when it is back. */
export function hostWatchWorkflowId(hostId: string): string {
  return `host-watch/${hostId}`;
}

/** Schedule that compares rows, runs and hosts; its runs have this id with the time behind it. */
export const RECONCILE_SCHEDULE_ID = 'reconcile';

/** A reconciliation that somebody asked for; at most one is open. */
export const RECONCILE_WORKFLOW_ID = 'reconcile/requested';
