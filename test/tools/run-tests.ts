/**
 * `npm test [-- tier… [file pattern…]]`: builds, sets the machine up, runs the tiers and closes with one line of
 * counts, alone on its line, for people and programs alike.
 */
import { runCommand } from './run-command.js';
import { runTier } from './run-tier.js';
import { addCounts, skipLines, type TestCounts, verdict } from './test-counts.js';
import { chooseTiers, type Tier } from './tiers.js';

interface TierRun {
  tier: Tier;
  counts: TestCounts;
  seconds: number;
}

function heading(text: string): void {
  console.log(`\n=== ${text}`);
}

/** Returns what failed, so that tiers which need none of it still run. */
async function prepare(): Promise<TestCounts['problems']> {
  const steps = [
    { name: 'build', argv: ['npm', 'run', '--silent', 'build'] },
    { name: 'torpor setup', argv: [process.execPath, 'dist/cli/main.js', 'setup'] },
    {
      name: 'simulated VMM',
      argv: [process.execPath, '--import', './test/tools/typescript.mjs', 'test/simulator/compile.ts'],
    },
  ];
  for (const { name, argv } of steps) {
    heading(name);
    const { exitCode, seconds } = await runCommand(argv, { output: 'show' });
    console.log(`${name}: ${seconds.toFixed(1)} s`);
    if (exitCode !== 0) return [`${name} failed (repeat it: ${argv.join(' ')})`];
  }
  return [];
}

async function timed(tier: Tier, files: readonly string[]): Promise<TierRun> {
  const started = performance.now();
  const counts = await runTier(tier, files);
  return { tier, counts, seconds: (performance.now() - started) / 1000 };
}

async function inTurn(tiers: readonly Tier[], files: readonly string[]): Promise<TierRun[]> {
  const runs: TierRun[] = [];
  for (const tier of tiers) {
    heading(tier.name);
    runs.push(await timed(tier, files));
  }
  return runs;
}

async function runAll(tiers: readonly Tier[], files: readonly string[]): Promise<TierRun[]> {
  const light = tiers.filter((tier) => tier.light);
  const [aside, inFront] = [
    light.filter(({ runner }) => runner === 'go'),
    light.filter(({ runner }) => runner !== 'go'),
  ];
  const first = await Promise.all([inTurn(aside, files), inTurn(inFront, files)]);
  const others = await inTurn(
    tiers.filter((tier) => !tier.light),
    files,
  );
  return [...first.flat(), ...others];
}

function report(runs: readonly TierRun[], all: TestCounts): boolean {
  heading('tests');
  for (const { tier, counts, seconds } of runs) {
    const { closing } = verdict(counts);
    console.log(`${tier.name.padEnd(12)} ${seconds.toFixed(1).padStart(7)} s   ${closing}`);
  }
  const { closing, ok, undeclared } = verdict(all);
  for (const line of skipLines(all.skips)) console.log(line);
  for (const { test } of undeclared) console.log(`FAILED: skipped without a reason (test/support/needs.ts): ${test}`);
  for (const text of all.problems) console.log(`FAILED: ${text}`);
  if (all.passed + all.failed === 0) console.log('FAILED: nothing ran');
  console.log(closing);
  return ok;
}

function chosen(): ReturnType<typeof chooseTiers> {
  try {
    return chooseTiers(process.argv.slice(2));
  } catch (err) {
    console.error((err as Error).message);
    process.exit(2);
  }
}

const { tiers, files } = chosen();
const problems = tiers.some(({ needs }) => needs === 'setup') ? await prepare() : [];
const runnable = problems.length === 0 ? tiers : tiers.filter(({ needs }) => needs === 'nothing');
const runs = await runAll(runnable, files);
const unprepared: TestCounts = { passed: 0, failed: 0, skips: [], problems };
process.exitCode = report(runs, addCounts([...runs.map(({ counts }) => counts), unprepared])) ? 0 : 1;
