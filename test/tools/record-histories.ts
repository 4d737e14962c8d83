/**
 * Records one history per workflow and path into test/workflow/histories, which the
 * replay test holds against today's code: `npm run histories:record -- network-ok` the
 * ones that are named, without a name all anew. Do it when a path is added; a history that does not replay any more means that operations which
 * are under way during an upgrade would get stuck.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { DomainError } from '../../workflows/contract/errors.js';
import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import type { SandboxSpec } from '../../workflows/contract/operations.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import { startSharedTemporal, stopSharedTemporal } from '../support/temporal.js';
import { newId, until, WorkflowRig, type Handle } from '../support/workflow-rig.js';

const FOLDER = fileURLToPath(new URL('../workflow/histories/', import.meta.url));
const FATAL = new DomainError('unsupported', 'planted');

type Path = (rig: WorkflowRig, host: FakeHost & { id: string }) => Promise<Handle>;

const PATHS: Record<string, Path> = {
  'create-ok': (rig) => rig.create(newId(), { timeoutSeconds: 600 }),
  'create-compensated': (rig, host) => {
    host.faults.fail('guest.init', FATAL);
    return rig.create(newId());
  },
  'create-cancelled': async (rig, host) => {
    const block = host.faults.block('hypervisor.start');
    const handle = await rig.create(newId());
    await block.reached;
    await handle.cancel();
    await handle.result().catch(() => undefined);
    block.release();
    return handle;
  },
  'create-destroyed': async (rig, host) => {
    const id = newId();
    const block = host.faults.block('hypervisor.start');
    const create = await rig.create(id);
    await block.reached;
    const destroy = await rig.destroy(id);
    await destroy.result();
    block.release();
    return create;
  },
  'create-host-away': async (rig) => {
    const away = await rig.addHost({ served: false });
    rig.control.hosts.unshift(rig.control.hosts.pop() ?? away.id);
    const handle = await rig.create(newId());
    await handle.result();
    rig.control.hosts.shift();
    return handle;
  },
  'pause-ok': async (rig, host) => rig.begin('pause', await rig.runningSandbox(host)),
  'pause-compensated': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    host.faults.fail('hypervisor.save', FATAL);
    return rig.begin('pause', id);
  },
  'pause-forward': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    host.faults.fail('disk.detach', FATAL);
    return rig.begin('pause', id);
  },
  'pause-destroyed': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('disk.detach');
    const pause = await rig.begin('pause', id);
    await block.reached;
    const destroy = await rig.destroy(id);
    await destroy.result();
    block.release();
    return pause;
  },
  'resume-ok': async (rig, host) => rig.begin('resume', await rig.pausedSandbox(host)),
  'resume-compensated': async (rig, host) => {
    const id = await rig.pausedSandbox(host);
    host.faults.fail('hypervisor.start', FATAL);
    return rig.begin('resume', id);
  },
  'destroy-ok': async (rig, host) => rig.destroy(await rig.pausedSandbox(host)),
  'recover-went-on': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    await cutOff(rig, host, id, 'hypervisor.save');
    return rig.recover(id);
  },
  'recover-paused': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    await cutOff(rig, host, id, 'disk.detach');
    return rig.recover(id);
  },
  'recover-booted': async (rig, host) => rig.recover(await lostSandbox(rig, host)),
  'recover-compensated': async (rig, host) => {
    const id = await lostSandbox(rig, host);
    host.faults.fail('guest.init', FATAL);
    return rig.recover(id);
  },
  'recover-memory-lost': async (rig, host) => rig.recover(await lostSandbox(rig, host, { onMemoryLoss: 'error' })),
  'recover-destroyed': async (rig, host) => {
    const id = await lostSandbox(rig, host);
    const block = host.faults.block('hypervisor.start');
    const recover = await rig.recover(id);
    await block.reached;
    const destroy = await rig.destroy(id);
    await destroy.result();
    block.release();
    return recover;
  },
  'network-ok': async (rig, host) => rig.changeNetwork(await rig.runningSandbox(host), { egress: false }),
  'network-paused': async (rig, host) => rig.changeNetwork(await rig.pausedSandbox(host), { egress: false }),
  'network-compensated': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    host.faults.fail('network.apply', FATAL);
    return rig.changeNetwork(id, { egress: false });
  },
  'network-destroyed': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('network.apply');
    const change = await rig.changeNetwork(id, { egress: false });
    await block.reached;
    const destroy = await rig.destroy(id);
    block.release();
    await destroy.result();
    return change;
  },
  'recover-network': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('network.apply');
    const change = await rig.changeNetwork(id, { egress: false });
    await block.reached;
    await change.terminate('by the recorder');
    block.release();
    return rig.recover(id);
  },
  'watch-returned': async (rig, host) => {
    const id = await rig.runningSandbox(host);
    rig.control.silent.add(host.id);
    const watch = await rig.watchHost(host.id);
    await until('it is missing', () => rig.control.row(id).state === 'missing');
    rig.control.silent.delete(host.id);
    await until('it is running', () => rig.control.row(id).state === 'running' && !rig.control.lost.has(host.id));
    const hosts = rig.control.hosts.splice(0);
    await watch.result();
    rig.control.hosts.push(...hosts);
    return watch;
  },
  'reconcile-dry': async (rig, host) => {
    host.crashVm(await rig.runningSandbox(host));
    return rig.beginReconcile({ dryRun: true });
  },
  'reconcile-mended': async (rig, host) => {
    host.crashVm(await rig.runningSandbox(host));
    const ended = await rig.runningSandbox(host);
    rig.control.row(ended).state = 'stopped';
    rig.control.seen.add(ended);
    return rig.beginReconcile();
  },
  'ttl-retried': async (rig) => {
    const id = newId();
    rig.control.expiries.push({ done: false, message: 'planted' });
    await (await rig.create(id, { timeoutSeconds: 1 })).result();
    return rig.client.workflow.getHandle(ttlWorkflowId(id));
  },
  'build-ok': (rig) => rig.build(newId(), ['true', 'echo done']),
  'build-failed': (rig, host) => {
    host.commandResults.set('false', { exitCode: 1, output: '' });
    return rig.build(newId(), ['false']);
  },
};

async function cutOff(rig: WorkflowRig, host: FakeHost, id: string, port: PortMethod): Promise<void> {
  const block = host.faults.block(port);
  const pause = await rig.begin('pause', id);
  await block.reached;
  await pause.terminate('by the recorder');
  block.release();
}

async function lostSandbox(
  rig: WorkflowRig,
  host: FakeHost & { id: string },
  spec: Partial<SandboxSpec> = {},
): Promise<string> {
  const id = await rig.runningSandbox(host, 'kept', spec);
  rig.control.row(id).state = 'missing';
  host.crashVm(id);
  return id;
}

/** Stack traces and identities tell of the recording machine only. */
function withoutMachine(json: string): string {
  const keep = (key: string, value: unknown): unknown => {
    if (key === 'stackTrace') return '';
    return key === 'identity' ? 'recorder' : value;
  };
  return JSON.stringify(JSON.parse(json, keep), null, 1);
}

const named = process.argv.slice(2);
const strange = named.filter((name) => !(name in PATHS));
if (strange.length > 0) throw new Error(`there is no path ${strange.join(', ')}`);
await startSharedTemporal();
const rig = await WorkflowRig.open();
try {
  const host = await rig.addHost();
  if (named.length === 0) await rm(FOLDER, { recursive: true, force: true });
  await mkdir(FOLDER, { recursive: true });
  for (const [name, path] of Object.entries(PATHS)) {
    if (named.length > 0 && !named.includes(name)) continue;
    host.faults.clear();
    const handle = await path(rig, host);
    await handle.result().catch(() => undefined);
    const { runId } = await handle.describe();
    // A run that made way is the one before the destroy that `describe` finds.
    const recorded = handle.firstExecutionRunId ?? runId;
    const history = await rig.client.workflow.getHandle(handle.workflowId, recorded).fetchHistory();
    await writeFile(`${FOLDER}${name}.json`, `${withoutMachine(historyToJSON(history))}\n`);
    process.stdout.write(`${name}: ${history.events?.length ?? 0} events\n`);
  }
} finally {
  await rig.close();
  await stopSharedTemporal();
}
