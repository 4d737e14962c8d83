import { spawn } from 'node:child_process';
import { access, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { readConfig } from '../../../cli/config.js';
import { imagesFile } from '../../../cli/platform/guest-image.js';
import { ensureTemporal } from '../../../cli/platform/temporal-binary.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { hostTable, hostTag } from '../../../host-worker/host-tag.js';
import { hostQueue } from '../../../workflows/contract/ids.js';
import { type TestNamespace, standInGuest } from '../network/stand-in-guest.js';
import { HOST_ID, REGISTRATION_TOKEN, StubControlPlane } from './stub-control-plane.js';
import { WorkerProcess } from './worker-process.js';

const exec = new ChildProcessExec();
const QUEUE = 'host-worker-process';
const id = `proc${process.pid}`;
const op = { sandboxId: id, epoch: 1, opId: 'create' };
/** Answers whatever it is asked, as the agent of a guest that is well. */
const AGENT = `require('http').createServer((_, res) => res.writeHead(204).end()).listen(49983, '0.0.0.0')`;

Runtime.install({ logger: new DefaultLogger('ERROR', () => {}), shutdownSignals: [] });

let dir: string;
let api: StubControlPlane;
let temporal: TestWorkflowEnvironment;
let workflows: { worker: Worker; done: Promise<void> };
const workers: WorkerProcess[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'host-worker-'));
  api = await StubControlPlane.open();
  const { path } = await ensureTemporal(readConfig(), () => {});
  temporal = await TestWorkflowEnvironment.createLocal({ server: { executable: { type: 'existing-path', path } } });
  const worker = await Worker.create({
    connection: temporal.nativeConnection,
    taskQueue: QUEUE,
    workflowsPath: fileURLToPath(new URL('one-step.workflow.ts', import.meta.url)),
  });
  workflows = { worker, done: worker.run() };
}, 120_000);

afterAll(async () => {
  workflows.worker.shutdown();
  await workflows.done;
  await temporal.teardown();
  await api.close();
  // A worker leaves the rules that isolate its guests behind; here it has none left.
  for (const data of ['data', 'new/data']) await removeRules(join(dir, data));
  await rm(dir, { recursive: true });
}, 60_000);

afterEach(async () => {
  for (const worker of workers.splice(0)) {
    if (worker.running) worker.signal('SIGKILL');
    await worker.ended;
  }
});

function start(over: Record<string, string> = {}): WorkerProcess {
  const worker = new WorkerProcess({
    TORPOR_API_URL: api.url,
    TORPOR_REGISTRATION_TOKEN: REGISTRATION_TOKEN,
    TEMPORAL_ADDRESS: temporal.address,
    TORPOR_DATA_DIR: join(dir, 'data'),
    TORPOR_RUN_DIR: join(dir, 'run'),
    TORPOR_IMAGES: imagesFile(readConfig().cacheDir),
    TORPOR_NETWORK_CIDR: '10.97.0.0/24',
    // What is kept ahead is counted in no test here.
    TORPOR_NETWORK_POOL: '0',
    TORPOR_QEMU_ACCEL: 'tcg',
    TORPOR_VM_USER: 'nobody',
    ...over,
  });
  workers.push(worker);
  return worker;
}

async function removeRules(dataDir: string): Promise<void> {
  const table = hostTable(await hostTag(dataDir));
  await exec.run(['nft', '-f', '-'], { input: `add table inet ${table}\ndelete table inet ${table}\n` });
}

/** A process that is to be found by its arguments, as a VMM whose start was not recorded. */
function spawnVmm(socket: string): { ended: Promise<unknown> } {
  const argument = `socket,id=control,path=${socket}`;
  const child = spawn('sleep', ['600'], { argv0: `vmm ${argument}`, stdio: 'ignore' });
  return { ended: new Promise((resolve) => child.once('exit', resolve)) };
}

let steps = 0;

function step(name: string, input: object): Promise<unknown> {
  const workflowId = `${name}-${process.pid}-${(steps += 1)}`;
  return temporal.client.workflow.execute('OneStep', {
    workflowId,
    taskQueue: QUEUE,
    args: [hostQueue(HOST_ID), name, input],
  });
}

describe('the process of a host worker', () => {
  let guest: TestNamespace | undefined;
  afterAll(async () => guest?.close());

  it('ends a step that runs before it obeys SIGTERM', async () => {
    const console = join(dir, 'data/sandboxes/noisy/console.log');
    await mkdir(join(console, '..'), { recursive: true });
    await writeFile(console, Buffer.alloc(5_000_000, 'x'));
    const worker = start();
    await worker.says('"ready":"host-worker"');

    await step('setUpNetwork', { ...op, egress: false });
    const wiring = { namespace: `sbx-${id}`, tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: '' };
    guest = await standInGuest(`tg${process.pid}`, wiring);
    guest.run(AGENT).catch(() => undefined);
    const initialised = step('initGuest', op);
    await api.asked.promise;
    worker.signal('SIGTERM');
    await worker.says('draining');
    expect(worker.running).toBe(true);
    api.answer();
    await initialised;
    expect([await worker.ended, worker.output]).toEqual([0, expect.stringContaining('stopped; VMs go on')]);
    // What is done beside the steps was begun, and is over as well.
    expect((await stat(console)).size).toBeLessThan(300_000);
  }, 120_000);

  it('removes at its start what has ended and was left behind, and nothing that is not known to have ended', async () => {
    const left = ['gone', 'unknown', 'living'].map((name) => `${name}${process.pid}`);
    const folders = left.map((name) => join(dir, 'data/sandboxes', name));
    const journals = left.map((name) => join(dir, 'data/journal', `${name}.jsonl`));
    const [gone = '', unknown = '', living = ''] = left;
    const worker = start();
    await worker.says('"ready":"host-worker"');
    for (const sandboxId of left) await step('setUpNetwork', { ...op, sandboxId, egress: true });
    worker.signal('SIGKILL');
    await worker.ended;
    // What each kind of death leaves: an overlay, half a snapshot, half a build, run files, a socket, a control group.
    for (const folder of folders) {
      await mkdir(join(folder, 'snapshots/7.partial'), { recursive: true });
      await writeFile(join(folder, 'snapshots/7.partial/memory'), 'half');
      await writeFile(join(folder, 'disk.qcow2'), 'overlay');
    }
    const elsewhere = left.flatMap((name) => [
      join(dir, 'data/templates', `${name}.partial`),
      join(dir, 'run/vms', name),
    ]);
    for (const folder of elsewhere) await mkdir(join(folder, 'qemu'), { recursive: true });
    const orphan = spawnVmm(join(dir, 'run/vms', gone, 'qemu/control'));
    api.verdicts.set(gone, 'ended').set(living, 'live');

    const next = start();
    await next.says('"ready":"host-worker"');
    await orphan.ended;
    const there = async (path: string): Promise<boolean> =>
      access(path).then(
        () => true,
        () => false,
      );
    const seen = await Promise.all(
      [...folders, ...elsewhere, ...left.map((name) => `/run/netns/sbx-${name}`)].map(there),
    );
    expect(seen).toEqual([false, true, true, false, false, true, true, true, true, false, true, true]);
    // Half a snapshot is of no use to anybody but the step that makes it, which begins anew.
    expect(await there(join(dir, 'data/sandboxes', living, 'snapshots/7.partial'))).toBe(false);
    expect(await there(join(dir, 'data/sandboxes', unknown, 'snapshots/7.partial'))).toBe(true);
    expect(await Promise.all(journals.map(there))).toEqual([true, true, true]);
    const rules = (await exec.run(['nft', 'list', 'table', 'inet', hostTable(await hostTag(join(dir, 'data')))]))
      .stdout;
    expect(rules.match(/"tp[0-9a-f]{6}n[0-9a-z]+"/g)).toHaveLength(2);
    expect(next.output).toMatch(/kept, as nobody can say that they have ended/);

    for (const id of [unknown, living]) api.verdicts.set(id, 'ended');
    next.signal('SIGTERM');
    await next.ended;
    const last = start();
    await last.says('"ready":"host-worker"');
    expect((await Promise.all([...folders, ...elsewhere].map(there))).filter((left) => left)).toEqual([]);
    last.signal('SIGTERM');
    await last.ended;
  }, 120_000);

  it('goes on after a restart, and ends at once when nothing runs', async () => {
    const worker = start();
    await worker.says('"ready":"host-worker"');
    await step('deleteFiles', { ...op, epoch: 2, opId: 'destroy', last: true });
    await expect(access(`/run/netns/sbx-${id}`)).rejects.toMatchObject({ code: 'ENOENT' });

    const second = start();
    expect(await second.ended).toBe(78);
    expect(second.output).toMatch(/another host worker \(pid \d+\) uses .*TORPOR_DATA_DIR/);

    worker.signal('SIGTERM');
    expect(await worker.ended).toBe(0);
  }, 60_000);

  it.each([
    ['a wrong setting', { TORPOR_QEMU_ACCEL: 'warp', TEMPORAL_ADDRESS: 'x' }, /TEMPORAL_ADDRESS.*TORPOR_QEMU_ACCEL/s],
    ['no registration token', { TORPOR_REGISTRATION_TOKEN: '' }, /not registered: set TORPOR_REGISTRATION_TOKEN/],
    ['a wrong registration token', { TORPOR_REGISTRATION_TOKEN: 'x' }, /unknown registration token/],
    ['no guest image', { TORPOR_IMAGES: '/nowhere/images.json' }, /\/nowhere\/images\.json cannot be used/],
    ['a user that does not exist', { TORPOR_VM_USER: 'no-such-user' }, /no-such-user.*useradd/],
  ])(
    'ends with 78 for %s, in words',
    async (_, over, words) => {
      const worker = start({ TORPOR_DATA_DIR: join(dir, 'new/data'), TORPOR_RUN_DIR: join(dir, 'new/run'), ...over });
      expect([await worker.ended, worker.output]).toEqual([78, expect.stringMatching(words)]);
      expect(worker.output).not.toMatch(/^\s+at /m);
    },
    60_000,
  );

  it('ends with 1 for what another start may mend', async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
    const address = holder.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const worker = start({ TORPOR_DATA_PLANE_LISTEN: `127.0.0.1:${port}` });
    expect([await worker.ended, worker.output]).toEqual([1, expect.stringContaining('EADDRINUSE')]);
    await new Promise((resolve) => holder.close(resolve));
  }, 60_000);
});
