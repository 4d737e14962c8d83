import { randomBytes } from 'node:crypto';
import { Client, Connection, WithStartWorkflowOperation, type WorkflowHandle } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { defineUpdate } from '@temporalio/workflow';
import type { HostActivities } from '../../activities/host/contract.js';
import { createHostActivities } from '../../activities/host/host-activities.js';
import { FailureInterceptor } from '../../host-worker/failure.js';
import { buildWorkflowId, hostQueue, sandboxWorkflowId } from '../../workflows/contract/ids.js';
import {
  ACCEPTED_UPDATE,
  BUILD_WORKFLOW,
  REQUEST_DESTROY_SIGNAL,
  WORKFLOW_OF,
  type Accepted,
  type CreateSandboxInput,
  type DestroySandboxInput,
  type OperationInput,
  type SandboxSpec,
  type TemplateBuildInput,
  type Timing,
} from '../../workflows/contract/operations.js';
import { OP_ID, SANDBOX_ID, TEAM_ID } from '../../workflows/contract/search-attributes.js';
import type { OperationKind } from '../../workflows/contract/states.js';
import { FakeControl } from './fake-control.js';
import { FakeHost } from './fake-host-ports.js';
import { ADDRESS_VARIABLE, BUNDLE_VARIABLE } from './temporal.js';

/** Short enough for tests, long enough that a busy machine does not trip over them. */
export const TIMING: Timing = {
  retryInitialMs: 20,
  stepAttempts: 2,
  hostPickupMs: 3_000,
  stepMs: 10_000,
  longStepMs: 10_000,
  heartbeatMs: 5_000,
  undoMs: 6_000,
  forwardRetryMaxMs: 100,
};

export const SPEC: SandboxSpec = {
  templateId: 'template',
  vcpus: 1,
  memoryMb: 256,
  timeoutSeconds: 0,
  onTimeout: 'pause',
  egress: true,
  metadata: {},
  cold: false,
};

const acceptedUpdate = defineUpdate<Accepted>(ACCEPTED_UPDATE);

/** A start tells the run it made; a handle that was only looked up does not know it. */
export type Handle = WorkflowHandle & { firstExecutionRunId?: string };

// Once per file: the SDK's native runtime is a singleton of the process that jest gives each file.
// Its warnings are about the failures that the tests plant.
Runtime.install({ logger: new DefaultLogger('ERROR', () => {}), shutdownSignals: [] });

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
    const address = process.env[ADDRESS_VARIABLE];
    if (!address) throw new Error(`${ADDRESS_VARIABLE} is not set: run this file through the workflow tier`);
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
    this.watch(worker);
  }

  /** A host that serves its queue; `served: false` is one that is away. */
  async addHost({ served = true }: { served?: boolean } = {}): Promise<FakeHost & { id: string }> {
    const id = newId();
    const host = Object.assign(new FakeHost(), { id });
    this.hosts.set(id, host);
    this.control.hosts.push(id);
    if (served) await this.serve(host);
    return host;
  }

  async serve(host: FakeHost & { id: string }): Promise<void> {
    const activities: HostActivities = createHostActivities(host.ports, { heartbeatMs: 100, guestReadyMs: 1_000 });
    const worker = await Worker.create({
      connection: this.native,
      taskQueue: hostQueue(host.id),
      activities: { ...activities },
      interceptors: { activity: [() => ({ inbound: new FailureInterceptor(host.id) })] },
      maxHeartbeatThrottleInterval: '100ms',
    });
    this.watch(worker);
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

  /** A sandbox that runs and remembers `note`. */
  async runningSandbox(host: FakeHost, note = 'kept'): Promise<string> {
    const id = newId();
    await (await this.create(id)).result();
    host.write(id, note);
    return id;
  }

  async pausedSandbox(host: FakeHost, note = 'kept'): Promise<string> {
    const id = await this.runningSandbox(host, note);
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
    return {
      workflowId: sandboxWorkflowId(input.sandboxId),
      taskQueue: this.queue,
      memo: { opId: input.opId },
      typedSearchAttributes: [
        { key: SANDBOX_ID, value: input.sandboxId },
        { key: TEAM_ID, value: input.teamId },
        { key: OP_ID, value: input.opId },
      ],
    };
  }

  private watch(worker: Worker): void {
    this.running.push({ worker, done: worker.run() });
  }
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

/** What one sandbox still has on a host; other tests of the file may have left theirs. */
export function leftOf(host: FakeHost, id: string): string[] {
  return host.remaining({ builds: true }).filter((left) => left.split(' ')[1] === id);
}
