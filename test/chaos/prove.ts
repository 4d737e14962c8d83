import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { runCommand, tryCommand } from '../../cli/platform/command.js';
import { Case, type CasePlan } from './case.js';
import { leaked, VIOLATIONS, type ViolationKind } from './checks/violation.js';
import { interruption } from './interruption.js';
import { aligned } from './report.js';
import { Rig } from './rig.js';
import { Round } from './round.js';
import { verbRequest, type OperationName } from './stories.js';

/** Long enough for what is not held. */
const DEADLINE_MS = 20_000;

interface Proof {
  operation: OperationName;
  /** What is broken on purpose, and which check has to find it; null: nothing is, and nothing may be found. */
  planted: string;
  expected: ViolationKind | null;
  boundary?: CasePlan['boundary'];
  plant(rig: Rig, one: Case): Promise<void>;
  /** What the platform's own end of the sandbox does not take away. */
  remove?(one: Case): Promise<unknown>;
}

const nothing = () => Promise.resolve();

const PROOFS: readonly Proof[] = [
  { operation: 'create', planted: 'nothing', expected: null, plant: nothing },
  { operation: 'pause', planted: 'nothing', expected: null, plant: nothing },
  {
    operation: 'create',
    planted: 'its VMM is killed',
    expected: 'lost',
    plant: async (rig, one) => void process.kill(await vmmOf(rig, one), 'SIGKILL'),
  },
  {
    operation: 'resume',
    planted: 'its memory is thrown away: it is booted from its disk',
    expected: 'lost',
    plant: async (rig, one) => {
      process.kill(await vmmOf(rig, one), 'SIGKILL');
      await rig.demand(verbRequest('recover', one.subject, `${one.key}-boot`), 200);
    },
  },
  {
    operation: 'resume',
    planted: 'its disk is overwritten',
    expected: 'lost',
    plant: async (rig, one) => rig.probe.plant(rig.api, one.subject, 'another-seed'),
  },
  {
    operation: 'create',
    planted: 'a second VMM is started on its disk',
    expected: 'duplicated',
    plant: startSecondVmm,
  },
  {
    operation: 'create',
    planted: 'a second tap is put into its namespace',
    expected: 'duplicated',
    plant: async (_, { subject }) => {
      await runCommand(['ip', '-n', `sbx-${subject}`, 'tuntap', 'add', 'dev', 'tap7', 'mode', 'tap']);
    },
  },
  {
    operation: 'destroy',
    planted: 'its namespace is made again',
    expected: 'leaked',
    plant: async (_, { subject }) => {
      await runCommand(['ip', 'netns', 'add', `sbx-${subject}`]);
    },
    remove: ({ subject }) => runCommand(['ip', 'netns', 'delete', `sbx-${subject}`]),
  },
  {
    operation: 'pause',
    planted: 'it is held for ever',
    expected: 'stuck',
    boundary: { process: 'host-worker', step: 'killVm', occurrence: 1, edge: 'before' },
    plant: nothing,
  },
];

async function vmmOf(rig: Rig, { subject }: Case): Promise<number> {
  const [pid] = (await (await rig.hostView()).of(subject)).vmms;
  if (pid === undefined) throw new Error(`${subject} has no VMM`);
  return pid;
}

/** The same command again, with a control socket of its own. */
async function startSecondVmm(rig: Rig, one: Case): Promise<void> {
  const [file = '', ...args] = (await readFile(`/proc/${await vmmOf(rig, one)}/cmdline`, 'utf8'))
    .split('\0')
    .filter(Boolean);
  const own = args.map((arg) => (arg.startsWith('--control=') ? `${arg}-second` : arg));
  await tryCommand(['ip', 'netns', 'exec', `sbx-${one.subject}`, file, ...own]);
}

/** Breaks what the checks look at, one thing at a time, and sees that each is found and called by its name. */
async function prove(rig: Rig): Promise<boolean> {
  const run = randomBytes(4).toString('hex');
  const cases = PROOFS.map(({ operation, boundary }, index) => {
    const plan = { operation, process: 'api' as const, ...(boundary === undefined ? {} : { boundary }) };
    return new Case(plan, `p${run}-${index}`);
  });
  const plant = async () => {
    for (const [index, proof] of PROOFS.entries()) {
      const one = cases[index];
      if (one !== undefined) await proof.plant(rig, one);
    }
  };
  await new Round(rig, cases, undefined, { deadlineMs: DEADLINE_MS, beforeExamination: plant }).run();
  for (const line of await rig.leaks.find()) cases.find(({ subject }) => line.includes(subject))?.blame(leaked(line));
  for (const [index, { remove }] of PROOFS.entries()) {
    const one = cases[index];
    if (one !== undefined) await remove?.(one);
  }
  const rows = PROOFS.map(({ operation, planted, expected }, index) => {
    const one = cases[index];
    const found = VIOLATIONS.filter((kind) => one?.has(kind));
    const good = expected === null ? found.length === 0 : found.includes(expected);
    const first = (one?.violations[0]?.what ?? '').split('\n')[0] ?? '';
    return [operation, planted, expected ?? 'nothing', found.join(' ') || 'nothing', good ? 'yes' : 'NO', first];
  });
  process.stdout.write(`${aligned([['operation', 'planted', 'expected', 'found', 'proved', 'first'], ...rows])}\n`);
  return rows.every((row) => row.includes('yes'));
}

const rig = await Rig.open({ qemu: false, cluster: false, times: {} });
let proved = false;
try {
  proved = await Promise.race([prove(rig), interruption()]);
} finally {
  await rig.close(!proved);
}
if (!proved) process.exitCode = 1;
