import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLOUD_HYPERVISOR, labEnvironment } from '../lab/lab-environment.js';
import { runLabTier } from '../lab/lab-tier.js';
import { ROOT } from '../support/root.js';
import { countGoResults, failedGoOutput } from './go-results.js';
import { countJestResults } from './jest-results.js';
import { countMatrixResults } from './matrix-results.js';
import { runCommand } from './run-command.js';
import { addCounts, type TestCounts } from './test-counts.js';
import type { Tier } from './tiers.js';

const AGENT = join(ROOT, 'guest/envd');

export function runTier(tier: Tier, files: readonly string[]): Promise<TestCounts> {
  switch (tier.runner) {
    case 'go':
      return runGoTier(tier);
    case 'matrix':
      return runMatrixTier(tier, files);
    case 'lab':
      return runLabTier(tier, files);
    case 'jest':
      return runJestTier(tier, files);
  }
}

async function runJestTier(tier: Tier, files: readonly string[]): Promise<TestCounts> {
  const scratch = await mkdtemp(join(tmpdir(), 'torpor-test-results-'));
  try {
    const results = join(scratch, 'results.json');
    const jest = join(ROOT, 'node_modules/jest/bin/jest.js');
    const argv = [process.execPath, '--experimental-vm-modules', '--disable-warning=ExperimentalWarning', jest, '--ci'];
    argv.push('--selectProjects', tier.name, '--json', '--outputFile', results);
    // Of several tiers that were named, a pattern may concern only one; a run of nothing at all fails in the end.
    if (files.length > 0) argv.push('--passWithNoTests');
    argv.push(...(tier.files === 1 ? ['--runInBand'] : ['--maxWorkers', String(tier.files)]), ...files);
    const { exitCode } = await runCommand(argv, { output: 'show', deadlineMs: tier.deadlineMinutes * 60_000 });
    const json = await readFile(results, 'utf8').catch(() => undefined);
    if (json === undefined)
      return problem(`${tier.name}: jest ended with ${exitCode ?? 'a signal'} and without results`);
    const counts = countJestResults(json);
    if (exitCode !== 0 && counts.failed + counts.problems.length === 0) {
      return addCounts([
        counts,
        problem(`${tier.name}: jest ended with ${exitCode ?? 'a signal'} though no test failed`),
      ]);
    }
    return files.length > 0 ? counts : ranSomething(tier, counts);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Captured, since it runs beside another tier; what failed is printed when it ends. */
async function runGoTier(tier: Tier): Promise<TestCounts> {
  const options = { output: 'capture', cwd: AGENT, deadlineMs: tier.deadlineMinutes * 60_000 } as const;
  const vet = await runCommand(['go', 'vet', './...'], options);
  if (vet.exitCode !== 0) {
    console.log(vet.output);
    return problem(`${tier.name}: go vet failed (repeat it: go -C guest/envd vet ./...)`);
  }
  const tests = await runCommand(['go', 'test', '-race', '-json', './...'], options);
  const counts = countGoResults(tests.stdout);
  if (tests.exitCode === 0) return ranSomething(tier, counts);
  console.log(failedGoOutput(tests.stdout) || tests.output);
  if (counts.failed + counts.problems.length > 0) return counts;
  return addCounts([
    counts,
    problem(`${tier.name}: go test ended with ${tests.exitCode ?? 'a signal'} though no test failed`),
  ]);
}

/** A part of the kill matrix; the whole of it is `npm run test:chaos`. */
async function runMatrixTier(tier: Tier, options: readonly string[]): Promise<TestCounts> {
  const { matrix = [] } = tier;
  if (matrix.includes('--lab') && labEnvironment().cloudHypervisor === undefined)
    return skipped(`${tier.name}: the kill cases`, `needs ${CLOUD_HYPERVISOR}`);
  const argv = [process.execPath, '--import', './test/tools/typescript.mjs', 'test/chaos/matrix.ts', ...matrix];
  const { exitCode, stdout } = await runCommand([...argv, ...options], {
    output: 'both',
    deadlineMs: tier.deadlineMinutes * 60_000,
  });
  const counts = countMatrixResults(stdout);
  if (counts === undefined)
    return problem(`${tier.name}: the matrix ended with ${exitCode ?? 'a signal'} and no result`);
  if (exitCode === 0 || counts.failed > 0) return ranSomething(tier, counts);
  return addCounts([counts, problem(`${tier.name}: the matrix ended with ${exitCode ?? 'a signal'}`)]);
}

function ranSomething(tier: Tier, counts: TestCounts): TestCounts {
  const any = counts.passed + counts.failed + counts.skips.length + counts.problems.length > 0;
  return any ? counts : problem(`${tier.name}: no test was found`);
}

function skipped(test: string, reason: string): TestCounts {
  return { passed: 0, failed: 0, skips: [{ test, reason }], problems: [] };
}

function problem(text: string): TestCounts {
  return { passed: 0, failed: 0, skips: [], problems: [text] };
}
