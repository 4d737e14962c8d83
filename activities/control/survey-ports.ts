import type { Reconciled } from '../../workflows/contract/findings.js';
import type { Verdict } from '../host/contract.js';
import type { SurveyedSandbox } from './contract.js';

/** A sandbox's row, as far as a comparison needs it. */
export interface SurveyRow extends SurveyedSandbox {
  teamId: string;
  templateId: string;
  hostId: string | null;
  generation: number;
  timeoutSeconds: number;
  expiresAt: Date | null;
  /** Its newest operation did not succeed, and no loss of its host came after: what it left is not known. */
  unfinished: boolean;
}

/** How a host is heard, judged by the database's clock. */
export interface HostLease {
  id: string;
  /** Milliseconds until its lease runs out; negative once it has. */
  leftMs: number;
  /** An API listens. While none does no host's lease runs. */
  listening: boolean;
  heartbeatAt: Date;
  lostAt: Date | null;
}

/** What a reconciliation reads, and the little that it writes outside the transactions of repairs. */
export interface SurveyStore {
  hosts(): Promise<{ id: string; online: boolean }[]>;
  hostLease(id: string): Promise<HostLease | null>;
  /** Not those that are stopped. `null`: those that never reached a host. */
  rowsOf(hostId: string | null): Promise<SurveyRow[]>;
  /** Template builds that say that they run there. */
  runningBuilds(hostId: string): Promise<string[]>;
  /** The same rows read again, whatever became of them. */
  rows(ids: readonly string[]): Promise<SurveyRow[]>;
  verdicts(hostId: string, ids: readonly string[]): Promise<ReadonlyMap<string, Verdict>>;
  /** Remembers when each was first seen on the host, and answers how long ago that is. */
  rememberOrphans(hostId: string, ids: readonly string[]): Promise<ReadonlyMap<string, { ageMs: number }>>;
  /** Forgets all others of this host: what is not found any more starts anew when it is found again. */
  forgetOrphansBut(hostId: string, ids: readonly string[]): Promise<void>;
  /** Events of the sandboxes that have a row, and the log. What is there already is not written again. */
  record(runId: string, findings: readonly Reconciled[]): Promise<void>;
}
