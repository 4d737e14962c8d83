import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection, WithStartWorkflowOperation, type WorkflowHandle } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { defineUpdate } from '@temporalio/workflow';
import type { HostActivities } from '../../activities/host/contract.js';
import { createHostActivities } from '../../activities/host/host-activities.js';
import { createHostCare } from '../../activities/host/host-care.js';
import { StepGate } from '../../activities/host/step-gate.js';
import { FailureInterceptor } from '../../host-worker/failure.js';
import type { ReconcileReport } from '../../workflows/contract/findings.js';
import { buildWorkflowId, hostQueue, hostWatchWorkflowId, sandboxWorkflowId } from '../../workflows/contract/ids.js';
import {
  ACCEPTED_UPDATE,
  BUILD_WORKFLOW,
  HOST_WATCH_WORKFLOW,
  RECONCILE_WORKFLOW,
  REQUEST_DESTROY_SIGNAL,
  WORKFLOW_OF,
  type Accepted,
  type CreateSandboxInput,
  type DestroySandboxInput,
  type HostWatchInput,
  type OperationInput,
  type ReconcileInput,
  type RecoverSandboxInput,
  type SandboxSpec,
  type TemplateBuildInput,
  type UpdateNetworkInput,
} from '../../workflows/contract/operations.js';
import { HOST_ID, OP_ID, SANDBOX_ID, TEAM_ID } from '../../workflows/contract/search-attributes.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { OperationKind } from '../../workflows/contract/states.js';
import { FakeControl } from './fake-control.js';
import { FakeHost } from './fake-host-ports.js';
import { ADDRESS_VARIABLE, BUNDLE_VARIABLE } from './temporal.js';
import { TIMING } from './workflow-timing.js';

export { TIMING } from './workflow-timing.js';

export const SPEC: SandboxSpec = {
  templateId: 'template',
  vcpus: 1,
  memoryMb: 256,
  timeoutSeconds: 0,
  onTimeout: 'pause',
  egress: true,
  metadata: {},
  cold: false,
  onMemoryLoss: 'reboot',
};

const acceptedUpdate = defineUpdate<Accepted>(ACCEPTED_UPDATE);

/** A start tells the run it made; a handle that was only looked up does not know it. */
export type Handle = WorkflowHandle & { firstExecutionRunId?: string };

// Once per file: the SDK's native runtime is a singleton of the process that jest gives each file.
// Its warnings are about the failures that the tests plant.
Runtime.install({
  logger: new DefaultLogger('ERROR', () => {}),
  telemetryOptions: { logging: { filter: 'ERROR' } },
  shutdownSignals: [],
});

/** A control worker with an in-memory database, hosts in memory, and the real Temporal server of the tier between them. */
export class WorkflowRig {
  readonly hosts = new Map<string, FakeHost>();
  private readonly running: { worker: Worker; done: Promise<void> }[] = [];

  private constructor(
    readonly client: Client,
    readonly control: FakeControl,
    readonly queue: string,
    private readonly connection: Connection,
    private readonly native: NativeConnection,
  ) {}

  static async open(): Promise<WorkflowRig> {
    const address = addressOfTier();
    const connection = await Connection.connect({ address });
    const native = await NativeConnection.connect({ address });
    const queue = `control-${newId()}`;
    const client = new Client({ connection });
    const rig = new WorkflowRig(client, new FakeControl(client, queue), queue, connection, native);
    await rig.startControlWorker();
    return rig;
  }

  async startControlWorker(): Promise<void> {
    const codePath = process.env[BUNDLE_VARIABLE] ?? '';
    const worker = await Worker.create({
      connection: this.native,
      taskQueue: this.queue,
      workflowBundle: { codePath },
      activities: this.control.activities,
      maxHeartbeatThrottleInterval: '100ms',
    });
    void this.watch(worker);
  }

  /** A host that serves its queue; `served: false` is one that is away. */
  async addHost({ served = true }: { served?: boolean } = {}): Promise<FakeHost & { id: string }> {
    const id = newId();
    const host = Object.assign(new FakeHost(), { id });
    host.verdictOf = (sandboxId) => this.control.verdict(sandboxId, id);
    this.hosts.set(id, host);
    this.control.hosts.push(id);
    if (served) await this.serve(host);
    return host;
  }

  /** Returns how to take the worker of the host away again; what it runs is waited for. `apart`: beside another one. */
  async serve(
    host: FakeHost & { id: string },
    { heartbeatMs = 100, slots = 20, apart = false }: { heartbeatMs?: number; slots?: number; apart?: boolean } = {},
  ): Promise<() => Promise<void>> {
    const gate = new StepGate();
    const activities: HostActivities = createHostActivities(host.ports, { gate, heartbeatMs, guestReadyMs: 1_000 });
    const worker = await Worker.create({
      // One connection serves a queue once; another process has its own.
      connection: apart ? await NativeConnection.connect({ address: addressOfTier() }) : this.native,
      taskQueue: hostQueue(host.id),
      activities: { ...activities, ...createHostCare(host.ports, { gate, heartbeatMs }) },
      maxConcurrentActivityTaskExecutions: slots,
      interceptors: { activity: [() => ({ inbound: new FailureInterceptor(host.id) })] },
      maxHeartbeatThrottleInterval: '100ms',
    });
    const done = this.watch(worker);
    return async () => {
      worker.shutdown();
      await done;
    };
  }

  async close(): Promise<void> {
    for (const { worker } of this.running) if (worker.getState() === 'RUNNING') worker.shutdown();
    await Promise.all(this.running.map(({ done }) => done));
    await this.native.close();
    await this.connection.close();
  }

  create(sandboxId: string, spec: Partial<SandboxSpec> = {}): Promise<Handle> {
    const input: CreateSandboxInput = { ...this.input(sandboxId), spec: { ...SPEC, ...spec } };
    return this.start('create', input);
  }

  begin(kind: 'pause' | 'resume', sandboxId: string): Promise<Handle> {
    return this.start(kind, this.input(sandboxId));
  }

  build(buildId: string, setup: string[]): Promise<Handle> {
    const { templateId, vcpus, memoryMb } = SPEC;
    const input: TemplateBuildInput = {
      ...{ buildId, templateId, vcpus, memoryMb, setup },
      teamId: 'team',
      image: 'minimal',
      timing: TIMING,
    };
    return this.client.workflow.start(BUILD_WORKFLOW, {
      workflowId: buildWorkflowId(buildId),
      taskQueue: this.queue,
      args: [input],
    });
  }

  /** As the API does it: whatever is open makes way, or a new run begins. */
  async destroy(sandboxId: string): Promise<Handle> {
    const input: DestroySandboxInput = { ...this.input(sandboxId), reason: 'requested' };
    return this.client.workflow.signalWithStart(WORKFLOW_OF.destroy, {
      ...this.options(input),
      args: [input],
      signal: REQUEST_DESTROY_SIGNAL,
      signalArgs: [input],
    });
  }

  recover(sandboxId: string, wish: Partial<RecoverSandboxInput> = {}): Promise<Handle> {
    const input: RecoverSandboxInput = {
      ...this.input(sandboxId),
      ...{ reason: 'requested', boot: false, discardMemory: false },
      ...wish,
    };
    return this.start('recover', input);
  }

  changeNetwork(sandboxId: string, network: NetworkPolicy): Promise<Handle> {
    const input: UpdateNetworkInput = { ...this.input(sandboxId), network };
    return this.start('network', input);
  }

  watchHost(hostId: string): Promise<Handle> {
    return this.client.workflow.start(HOST_WATCH_WORKFLOW, {
      workflowId: hostWatchWorkflowId(hostId),
      taskQueue: this.queue,
      args: [{ hostId } satisfies HostWatchInput],
    });
  }

  async reconcile(wish: Partial<ReconcileInput> = {}): Promise<ReconcileReport> {
    return (await (await this.beginReconcile(wish)).result()) as ReconcileReport;
  }

  beginReconcile(wish: Partial<ReconcileInput> = {}): Promise<Handle> {
    return this.client.workflow.start(RECONCILE_WORKFLOW, {
      workflowId: `reconcile/${newId()}`,
      taskQueue: this.queue,
      args: [{ dryRun: false, removeUnknown: false, ...wish } satisfies ReconcileInput],
    });
  }

  /** A sandbox that runs and remembers `note`. */
  async runningSandbox(
    host: FakeHost & { id: string },
    note = 'kept',
    spec: Partial<SandboxSpec> = {},
  ): Promise<string> {
    const id = newId();
    this.control.placed.set(id, host.id);
    await (await this.create(id, spec)).result();
    host.write(id, note);
    return id;
  }

  async pausedSandbox(
    host: FakeHost & { id: string },
    note = 'kept',
    spec: Partial<SandboxSpec> = {},
  ): Promise<string> {
    const id = await this.runningSandbox(host, note, spec);
    await (await this.begin('pause', id)).result();
    return id;
  }

  async accepted(kind: OperationKind, input: OperationInput): Promise<Accepted> {
    const startWorkflowOperation = new WithStartWorkflowOperation(WORKFLOW_OF[kind], {
      ...this.options(input),
      args: [input],
      workflowIdConflictPolicy: 'FAIL',
    });
    return this.client.workflow.executeUpdateWithStart(acceptedUpdate, { startWorkflowOperation });
  }

  input(sandboxId: string): OperationInput {
    return { opId: newId(), sandboxId, teamId: 'team', timing: TIMING };
  }

  start(kind: OperationKind, input: OperationInput): Promise<Handle> {
    return this.client.workflow.start(WORKFLOW_OF[kind], {
      ...this.options(input),
      args: [input],
      workflowIdConflictPolicy: 'FAIL',
    });
  }

  private options(input: OperationInput) {
    const hostId = this.control.sandboxes.get(input.sandboxId)?.hostId;
    return {
      workflowId: sandboxWorkflowId(input.sandboxId),
      taskQueue: this.queue,
      memo: { opId: input.opId },
      typedSearchAttributes: [
        { key: SANDBOX_ID, value: input.sandboxId },
        { key: TEAM_ID, value: input.teamId },
        { key: OP_ID, value: input.opId },
        ...(hostId === undefined ? [] : [{ key: HOST_ID, value: hostId }]),
      ],
    };
  }

  private watch(worker: Worker): Promise<void> {
    const done = worker.run();
    this.running.push({ worker, done });
    return done;
  }
}

function addressOfTier(): string {
  const address = process.env[ADDRESS_VARIABLE];
  if (!address) throw new Error(`${ADDRESS_VARIABLE} is not set: run this file through the workflow tier`);
  return address;
}

export function newId(): string {
  return `t${randomBytes(8).toString('hex')}`;
}

/** The failure a run ended with, by the code that programs branch on. */
export async function failureOf(handle: Handle): Promise<{ type: string; message: string }> {
  try {
    await handle.result();
  } catch (err) {
    const cause = err instanceof Error && err.cause instanceof Error ? err.cause : (err as Error);
    return { type: ('type' in cause && String(cause.type)) || cause.name, message: cause.message };
  }
  throw new Error('the run succeeded');
}

/** Resolves when `holds` does; what is waited for has no event that a test could hear. */
export async function until(what: string, holds: () => Promise<boolean> | boolean, limitMs = 15_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await sleep(50);
  }
}

/** Runs all cases, a few at a time, and tells of every one that failed; each needs a host of its own to plant faults on. */
export async function inParallel<T>(cases: readonly T[], run: (one: T) => Promise<void>): Promise<void> {
  const queue = [...cases];
  const failures: string[] = [];
  const next = async (): Promise<void> => {
    for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
      await run(one).catch((err: unknown) => failures.push(`${JSON.stringify(one)}: ${String(err)}`));
    }
  };
  await Promise.all(Array.from({ length: 6 }, next));
  if (failures.length > 0)
    throw new Error(`${failures.length} of ${cases.length} cases failed:\n${failures.join('\n')}`);
}

/** What one sandbox still has on a host; other tests of the file may have left theirs. */
export function leftOf(host: FakeHost, id: string): string[] {
  return host.remaining({ builds: true }).filter((left) => left.split(' ')[1] === id);
}
