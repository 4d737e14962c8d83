import { setTimeout as delay } from 'node:timers/promises';
import type { StepReport } from '../../cli/step-report.js';
import type { Edge } from '../../test/chaos/boundary.js';
import { insist, type Request } from '../../test/chaos/caller.js';
import type { ChaosPlatform } from '../../test/chaos/chaos-platform.js';
import { PROCESS_NAMES, type ProcessName } from '../../test/chaos/chaos-process.js';
import { Records } from '../../test/chaos/records.js';
import { createRequest, destroyRequest, sandboxOf, STORIES } from '../../test/chaos/stories.js';
import { median } from '../statistics.js';

/** Heartbeat timeout of a host step, and what is allowed on top. */
const BAR_SECONDS = 10 + 2;
const PATIENCE_MS = 120_000;
const LOOK_AGAIN_MS = 25;

/** The long host step of each operation: the one that a kill most likely falls into. */
const STEPS = { create: 'startVm', pause: 'snapshotVm', resume: 'startVm', destroy: 'killVm' } as const;
type Verb = keyof typeof STEPS;
const VERBS = Object.keys(STEPS) as Verb[];

/** Seconds after the new process served, or why it did not end well. */
export type OperationEnd = { seconds: number } | { failed: string };

export interface RecoveryRow {
  process: ProcessName;
  kills: number;
  /** From the new process serving until each operation that was under way had completed. */
  seconds: number[];
  /** Operations that did not end well, each with why. */
  failed: string[];
  median: number;
  longest: number;
  bar: number;
  met: boolean;
}

/** Each process killed while operations stand in the middle of a host step, and how long they then take to complete. */
export async function benchRecovery(
  platform: ChaosPlatform,
  kills: number,
  prefix: string,
  report: StepReport,
): Promise<RecoveryRow[]> {
  const records = await Records.open(platform.addresses.databaseUrl, platform.addresses.temporal);
  const rows: RecoveryRow[] = [];
  try {
    for (const process of PROCESS_NAMES) {
      const round = (index: number) =>
        oneKill(platform, records, process, `${prefix}${process}${index}`, edgeOf(index));
      const row = await report.step(
        `recover from ${process}`,
        async () => {
          const ends: OperationEnd[] = [];
          for (let index = 0; index < kills; index += 1) ends.push(...(await round(index)));
          return rowOf(process, kills, ends);
        },
        ({ median: middle, failed }) => [`median ${middle.toFixed(1)} s`, ...failed].join('; '),
      );
      rows.push(row);
    }
  } finally {
    await records.close();
  }
  return rows;
}

export function rowOf(process: ProcessName, kills: number, ends: readonly OperationEnd[]): RecoveryRow {
  const seconds = ends.flatMap((end) => ('seconds' in end ? [end.seconds] : []));
  const failed = ends.flatMap((end) => ('failed' in end ? [end.failed] : []));
  const middle = seconds.length === 0 ? Infinity : median(seconds);
  return {
    ...{ process, kills, seconds, failed, median: middle, longest: Math.max(...seconds, middle) },
    ...{ bar: BAR_SECONDS, met: failed.length === 0 && middle <= BAR_SECONDS },
  };
}

/** Held before a step works, then behind its work but before its answer. */
function edgeOf(index: number): Edge {
  return index % 2 === 0 ? 'before' : 'after';
}

/** One operation of each kind, all in their step when the process dies. */
async function oneKill(
  platform: ChaosPlatform,
  records: Records,
  name: ProcessName,
  prefix: string,
  edge: Edge,
): Promise<OperationEnd[]> {
  const cases = await Promise.all(VERBS.map((verb) => prepare(platform, verb, `${prefix}${verb}`)));
  const tracks = cases.map(({ id, verb }) =>
    platform.director.watch(id, { process: 'host-worker', step: STEPS[verb], occurrence: 1, edge }),
  );
  const answers = cases.map(({ request }) => ask(platform, request));
  await Promise.all(tracks.map(({ reached }) => reached));
  await platform.process(name).kill();
  await platform.process(name).start();
  const ready = Date.now();
  for (const track of tracks) track.release();
  const ends = await Promise.all(cases.map(({ id, verb }) => endOf(records, id, verb, ready)));
  await Promise.all(answers);
  await Promise.all(cases.map(({ id }) => ask(platform, destroyRequest(id, `${id}-end`))));
  for (const { id } of cases) platform.director.forget(id);
  return ends;
}

async function prepare(
  platform: ChaosPlatform,
  verb: Verb,
  key: string,
): Promise<{ id: string; verb: Verb; request: Request }> {
  const id = sandboxOf(key);
  const story = STORIES[verb];
  if (story.from !== null) await ask(platform, createRequest(key));
  if (story.from === 'paused') await ask(platform, STORIES.pause.request(id, `${key}-pause`));
  return { id, verb, request: story.request(id, story.from === null ? key : `${key}-${verb}`) };
}

async function ask(platform: ChaosPlatform, request: Request): Promise<void> {
  await insist(platform.api, request, AbortSignal.timeout(PATIENCE_MS));
}

/** By the clock of the database, which is that of this machine. */
async function endOf(records: Records, id: string, verb: Verb, ready: number): Promise<OperationEnd> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await delay(LOOK_AGAIN_MS)) {
    const operation = (await records.operations([id])).find(({ kind }) => kind === verb);
    if (operation === undefined || operation.state === 'running' || operation.finishedAt === null) continue;
    if (operation.state === 'succeeded') return { seconds: Math.max(0, operation.finishedAt - ready) / 1000 };
    return { failed: `${verb} ${operation.state}: ${operation.failure?.step}: ${operation.failure?.message}` };
  }
  return { failed: `${verb} did not end within ${PATIENCE_MS / 1000} s` };
}
