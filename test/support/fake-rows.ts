import type { RecoverClaim } from '../../activities/control/contract.js';
import type { Failure } from '../../workflows/contract/errors.js';
import type { SandboxSpec } from '../../workflows/contract/operations.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { OperationKind, OperationState, SandboxState } from '../../workflows/contract/states.js';

export interface FakeRow {
  state: SandboxState;
  epoch: number;
  hostId: string;
  spec: SandboxSpec;
  generation: number;
  expiresAt: number | null;
  failure?: Failure;
  memoryLost?: { reason: string };
}

/** What a recovery found when it claimed. */
export type Origin = Pick<RecoverClaim, 'was' | 'interrupted' | 'again'>;

export interface FakeOperation {
  kind: OperationKind;
  sandboxId: string;
  runId: string;
  epoch: number;
  state: OperationState;
  failure?: Failure;
  /** What a recovery found when it claimed. */
  origin?: Origin;
  /** Policy that a change of the network is to bring. */
  network?: NetworkPolicy;
}
