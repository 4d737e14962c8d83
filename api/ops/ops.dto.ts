import { IsBoolean } from 'class-validator';
import type { Finding, FindingKind, Reconciled, ReconcileReport } from '../../workflows/contract/findings.js';
import type { ReconcileLogEntity } from './reconcile-log.entity.js';

export class ReconcileDto {
  /** Only look: what would be done is in the answer. */
  @IsBoolean()
  dry_run: boolean = false;

  /**
   * Also remove what hosts hold of ids that this database never knew. After it was restored from an older backup, those
   * are the sandboxes made since.
   */
  @IsBoolean()
  remove_unknown: boolean = false;
}

export class FindingDto {
  kind!: FindingKind;

  host_id!: string | null;

  /** Sandbox or build; null when it is about the host. */
  sandbox_id!: string | null;

  outcome!: 'repaired' | 'waiting' | 'kept' | 'failed' | 'would_repair';

  /** What was seen. */
  before!: Record<string, unknown>;

  /** What is true now, or what will be done and when. */
  after!: Record<string, unknown>;
}

export class LoggedFindingDto extends FindingDto {
  id!: string;
  at!: string;

  /** Temporal run that found it. */
  run_id!: string;
}

export class AskedHostsDto {
  asked!: number;
  answered!: number;
}

export class ReconcileReportDto {
  dry_run!: boolean;
  hosts!: AskedHostsDto;
  sandboxes!: number;
  findings!: FindingDto[];
}

type Found = Pick<Finding, 'kind' | 'hostId' | 'sandboxId' | 'before'> & Pick<Reconciled, 'outcome' | 'after'>;

function toFindingDto({ kind, hostId, sandboxId, outcome, before, after }: Found): FindingDto {
  return { kind, host_id: hostId, sandbox_id: sandboxId, outcome, before, after };
}

export function toLoggedFindingDto(row: ReconcileLogEntity): LoggedFindingDto {
  return { ...toFindingDto(row), id: row.id, at: row.at.toISOString(), run_id: row.runId };
}

export function toReportDto({ dryRun, hosts, sandboxes, findings }: ReconcileReport): ReconcileReportDto {
  const { asked, answered } = hosts;
  return { dry_run: dryRun, hosts: { asked, answered }, sandboxes, findings: findings.map(toFindingDto) };
}
