import { setTimeout as delay } from 'node:timers/promises';
import pc from 'picocolors';
import { findTraces, type HostTraces } from '../platform/host-traces.js';
import { describeProgress, waitForOperation } from '../operation-wait.js';
import type { RestClient } from '../rest-client.js';
import type { Operation, Sandbox } from '../rest-types.js';
import type { StepReport } from '../step-report.js';
import type { Claims } from './claims.js';
import { COUNT_SECONDS, readCounter, run, startCounter, type CounterReading } from './guest-counter.js';
import { openWorkflows } from './open-workflows.js';

export interface Stage {
  client: RestClient;
  report: StepReport;
  claims: Claims;
  /** Where the host keeps disks and snapshots. */
  dataDirectory: string;
  temporal: { address: string; namespace: string };
  /** Told the id as soon as there is one, so that it is destroyed whatever happens. */
  onCreated: (id: string) => void;
  /** No further step is begun after it. */
  signal: AbortSignal;
}

const FILE = '/home/user/kept.txt';
/** What a driver's machines are called where processes are listed. */
const PROGRAMS: Readonly<Record<string, string>> = { qemu: 'qemu-system-', 'cloud-hypervisor': 'cloud-hypervisor' };
/** Long enough that a clock that stood still, or a counter that did not, shows beyond doubt. */
const PAUSED_MS = 5_000;
const CLOCK_TOLERANCE_MS = 2_000;

/** The main job, with every claim about it checked on the machine itself. */
export async function tellStory(stage: Stage): Promise<void> {
  const { client, report, claims } = stage;
  const id = await create(stage);
  const alive = await findTraces(id, stage.dataDirectory);
  checkAlive(claims, alive, await driversOf(client, id));

  const content = `written before the pause of ${id}`;
  const before = await report.step(
    'run commands',
    async () => {
      claims.check(
        'a command runs in a Linux of its own',
        (await run(client, id, 'uname -s')).trim() === 'Linux',
        (await run(client, id, 'uname -sr')).trim(),
      );
      await run(client, id, `printf %s '${content}' > ${FILE} && sync`);
      await startCounter(client, id);
      return readCounter(client, id);
    },
    ({ count }) => `a counter in memory is at ${count}, ${FILE} is written`,
  );

  await operate(stage, 'pause', () => client.pause(id));
  const pausedAt = Date.now();
  checkGone(claims, 'while it is paused', await findTraces(id, stage.dataDirectory, alive.links));
  await report.step(
    'stay paused',
    () => delay(Math.max(0, pausedAt + PAUSED_MS - Date.now()), undefined, { signal: stage.signal }),
    () => 'a stopped clock would show',
  );
  const pausedMs = Date.now() - pausedAt;

  await operate(stage, 'resume', () => client.resume(id));
  const after = await readCounter(client, id);
  checkCounter(claims, before, after, pausedMs);
  const later = await readCounter(client, id, 'sleep 0.5\n');
  claims.check('and it keeps counting', later.count > after.count, `${after.count}, then ${later.count}`);
  claims.check(
    'the guest has the right time, within 2 s',
    clockErrorMs(after) <= CLOCK_TOLERANCE_MS,
    `${Math.round(clockErrorMs(after))} ms off`,
  );
  const found = await run(client, id, `cat ${FILE}`);
  claims.check('the file is there', found === content, JSON.stringify(found));

  await operate(stage, 'destroy', () => client.destroy(id));
  const { state } = await client.sandbox(id);
  claims.check('the sandbox is stopped', state === 'stopped', state);
  const left = await findTraces(id, stage.dataDirectory, alive.links);
  checkGone(claims, 'after it was destroyed', left);
  claims.none('no file of it is left on the host', left.files);
  claims.none('no workflow of it is open', await openWorkflows(stage.temporal, id));
}

async function create(stage: Stage): Promise<string> {
  let id = '';
  await operate(stage, 'create', async () => {
    const sandbox = await stage.client.create({ metadata: { made_by: 'torpor demo' } });
    id = sandbox.id;
    stage.onCreated(id);
    return sandbox;
  });
  const { state } = await stage.client.sandbox(id);
  stage.claims.check('the sandbox runs', state === 'running', state);
  return id;
}

/** Starts an operation and follows it to its end; shows where its run can be looked at. */
async function operate(
  { client, report, signal }: Stage,
  title: string,
  start: () => Promise<Sandbox>,
): Promise<Operation> {
  signal.throwIfAborted();
  return report.step(
    title,
    async (note) => {
      const { operation, id } = await start();
      if (operation === null) throw new Error(`${title} of ${id} was accepted without an operation`);
      note(describeProgress(await client.operation(operation.id)));
      return waitForOperation(client, operation.id, note);
    },
    ({ temporal_url }) => pc.cyan(temporal_url ?? ''),
  );
}

/** Names of what its host drives machines and disks with. */
async function driversOf(client: RestClient, id: string): Promise<{ hypervisor: string; disk: string }> {
  const [{ host_id }, { items }] = await Promise.all([client.sandbox(id), client.hosts({ limit: 200 })]);
  const drivers = items.find((host) => host.id === host_id)?.drivers;
  const [hypervisor, disk] = [drivers?.['hypervisor'], drivers?.['disk']];
  if (hypervisor === undefined || disk === undefined) throw new Error(`the host of ${id} does not say what drives it`);
  return { hypervisor, disk };
}

/** That these are found is what makes it mean something that they are not found later. */
function checkAlive(claims: Claims, traces: HostTraces, drivers: { hypervisor: string; disk: string }): void {
  const program = PROGRAMS[drivers.hypervisor.split('/')[0] ?? ''] ?? drivers.hypervisor;
  claims.check(
    `its machine is a process of this host, run by ${drivers.hypervisor}`,
    traces.processes.some((process) => process.includes(program)),
    traces.processes.join(', ') || 'none',
  );
  if (drivers.disk === 'dm-snapshot') {
    claims.check(
      'its disk is a snapshot device of this host',
      traces.devices.length > 0,
      traces.devices.join(', ') || 'none',
    );
  }
  claims.check('it has a network namespace', traces.namespaces.length === 1, traces.namespaces.join(', ') || 'none');
  claims.check(
    'it has a link and an address',
    traces.links.length > 0 && traces.addresses.length > 0,
    [...traces.links, ...traces.addresses].join(', ') || 'none',
  );
}

function checkGone(claims: Claims, when: string, traces: HostTraces): void {
  const { processes, namespaces, links, rules, addresses, devices } = traces;
  claims.none(`no process of it is left ${when}`, processes);
  claims.none(`no mapped or loop device of it is left ${when}`, devices);
  claims.none(`no namespace or tap of it is left ${when}`, namespaces);
  claims.none(`no link, address or firewall rule of it is left ${when}`, [...links, ...addresses, ...rules]);
}

function checkCounter(claims: Claims, before: CounterReading, after: CounterReading, pausedMs: number): void {
  const ran = after.uptime - before.uptime;
  const passed = (after.hostAfterMs - before.hostBeforeMs) / 1000;
  claims.check(
    'the same process is still counting',
    after.process === before.process,
    `process ${before.process}, now ${after.process}`,
  );
  claims.check('it did not start again', after.count >= before.count, `${before.count} before, ${after.count} after`);
  claims.check(
    'it did not run while it was paused',
    ran >= 0 && ran <= passed - pausedMs / 1000 + UPTIME_SLACK,
    `the guest ran ${ran.toFixed(1)} of ${passed.toFixed(1)} s`,
  );
  claims.check(
    'it made no step too many',
    after.count - before.count <= ran / COUNT_SECONDS + 1,
    `${after.count - before.count} steps in ${ran.toFixed(1)} s`,
  );
}

/** /proc/uptime has two digits. */
const UPTIME_SLACK = 0.05;

/** How far the guest's clock is outside the time that the reading took on the host. */
export function clockErrorMs({ guestMs, hostBeforeMs, hostAfterMs }: CounterReading): number {
  return Math.max(0, hostBeforeMs - guestMs, guestMs - hostAfterMs);
}
