import type { DataSource } from 'typeorm';
import type { ControlActivities } from '../../activities/control/contract.js';
import type { ControlTemporal } from '../../activities/control/ports.js';
import type { Holding } from '../../activities/host/contract.js';
import { OperationEntity } from '../../api/operation/operation.entity.js';
import { SandboxEntity } from '../../api/sandbox/sandbox.entity.js';
import { DomainError } from '../../workflows/contract/errors.js';
import { sandboxWorkflowId, ttlWorkflowId } from '../../workflows/contract/ids.js';
import type { CreateSandboxInput, SandboxSpec } from '../../workflows/contract/operations.js';

export const SPEC: SandboxSpec = {
  templateId: 'minimal',
  vcpus: 1,
  memoryMb: 512,
  timeoutSeconds: 0,
  onTimeout: 'pause',
  egress: true,
  metadata: { purpose: 'test' },
  cold: false,
  onMemoryLoss: 'reboot',
};

/** Temporal as the control activities see it: which runs are open, and what was started. */
export class FakeControlTemporal implements ControlTemporal {
  readonly open = new Set<string>();
  readonly armed: string[] = [];
  readonly woken: string[] = [];
  readonly repairs: Parameters<ControlTemporal['startRepair']>[0][] = [];
  /** Visibility that lags behind knows no keeper. */
  listed = true;
  refusal: DomainError | null = null;
  wake: () => Promise<void> = () => Promise.resolve();
  /** Happens while a question is being answered. */
  meanwhile: (workflowId: string) => Promise<void> = () => Promise.resolve();

  async armKeeper({ id }: { id: string }): Promise<void> {
    this.armed.push(id);
    this.open.add(ttlWorkflowId(id));
  }

  async wakeKeeper(sandboxId: string): Promise<void> {
    this.woken.push(sandboxId);
    await this.wake();
  }

  async isOpen(workflowId: string): Promise<boolean> {
    const open = this.open.has(workflowId);
    await this.meanwhile(workflowId);
    return open;
  }

  async keptOn(): Promise<ReadonlySet<string>> {
    const prefix = ttlWorkflowId('');
    const kept = [...this.open].filter((id) => id.startsWith(prefix)).map((id) => id.slice(prefix.length));
    return new Set(this.listed ? kept : []);
  }

  async ensureWatch(hostId: string): Promise<void> {
    this.open.add(`host-watch/${hostId}`);
  }

  async startRepair(request: Parameters<ControlTemporal['startRepair']>[0]): Promise<{ opId: string }> {
    if (this.refusal) throw this.refusal;
    this.repairs.push(request);
    this.open.add(sandboxWorkflowId(request.sandbox.id));
    return { opId: request.opId };
  }

  runOperation(): Promise<never> {
    return Promise.reject(new Error('not used here'));
  }
}

/** An API listens: heartbeats are judged by when they came. */
export async function listen({ manager }: DataSource): Promise<void> {
  await manager.query(`UPDATE control_plane SET beat_at = now(), up_since = now() - interval '1 day'`);
}

/** Nothing is left of the test before; the first API of this platform has long listened. */
export async function clear(dataSource: DataSource): Promise<void> {
  for (const table of ['sandbox_events', 'reconcile_log']) {
    await dataSource.query(`ALTER TABLE ${table} DISABLE TRIGGER ALL`);
  }
  await dataSource.query(
    `DELETE FROM reconcile_log; DELETE FROM sandbox_events; DELETE FROM operations; DELETE FROM operation_requests;
     DELETE FROM sandboxes; DELETE FROM template_builds; DELETE FROM host_orphans; DELETE FROM hosts`,
  );
  for (const table of ['sandbox_events', 'reconcile_log']) {
    await dataSource.query(`ALTER TABLE ${table} ENABLE TRIGGER ALL`);
  }
  await listen(dataSource);
}

/** Sandboxes made by the activities themselves, and their rows. */
export class SandboxRows {
  private static count = 0;

  constructor(
    private readonly dataSource: DataSource,
    private readonly activities: ControlActivities,
  ) {}

  create(changes: Partial<CreateSandboxInput & { runId: string }> = {}): CreateSandboxInput & { runId: string } {
    const count = (SandboxRows.count += 1);
    const ids = { opId: `op${count}`, sandboxId: `sbx${count}`, runId: `run${count}` };
    return { ...ids, teamId: 'team', spec: SPEC, ...changes };
  }

  async running(spec: Partial<SandboxSpec> = {}): Promise<string> {
    const input = this.create({ spec: { ...SPEC, ...spec } });
    const { epoch } = await this.activities.claimAndPlace(input);
    const { sandboxId, opId } = input;
    await this.activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'running' });
    return sandboxId;
  }

  /** In the middle of its pause. */
  async pausing(spec: Partial<SandboxSpec> = {}): Promise<{ sandboxId: string; opId: string; epoch: number }> {
    const sandboxId = await this.running(spec);
    const opId = `pause-${sandboxId}`;
    const { epoch } = await this.activities.claim({ opId, sandboxId, teamId: 'team', runId: opId, kind: 'pause' });
    return { sandboxId, opId, epoch };
  }

  async paused(spec: Partial<SandboxSpec> = {}): Promise<string> {
    const { sandboxId, opId, epoch } = await this.pausing(spec);
    const snapshot = { generation: epoch, memoryBytes: 1000, frozenMs: 5 };
    await this.activities.recordGeneration({ sandboxId, epoch, snapshot });
    await this.activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'paused' });
    return sandboxId;
  }

  /** On a host that was lost. */
  async missing(spec: Partial<SandboxSpec> = {}): Promise<string> {
    const sandboxId = await this.running(spec);
    await this.dataSource.query(`UPDATE sandboxes SET state = 'missing' WHERE id = $1`, [sandboxId]);
    return sandboxId;
  }

  row(id: string): Promise<SandboxEntity> {
    return this.dataSource.manager.findOneByOrFail(SandboxEntity, { id });
  }

  operation(id: string): Promise<OperationEntity> {
    return this.dataSource.manager.findOneByOrFail(OperationEntity, { id });
  }

  async events(sandboxId: string): Promise<{ type: string; data: Record<string, unknown> }[]> {
    return this.dataSource.query('SELECT type, data FROM sandbox_events WHERE sandbox_id = $1 ORDER BY id', [
      sandboxId,
    ]);
  }
}

export function holding(id: string, changes: Partial<Holding> = {}): Holding {
  return { id, vm: 'running', disk: true, network: true, snapshots: [], epoch: 1, ...changes };
}
