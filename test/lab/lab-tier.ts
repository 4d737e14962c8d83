import { readFile, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { ROOT } from '../support/root.js';
import { countJestResults } from '../tools/jest-results.js';
import type { TestCounts } from '../tools/test-counts.js';
import type { Tier } from '../tools/tiers.js';
import { labEnvironment } from './lab-environment.js';
import { LabRig } from './lab-rig.js';
import type { Lab } from './lab.js';

/** Suites that need a production host's kernel. They run in the lab; the others run where the developer is. */
const INSIDE =
  /^test\/(conformance\/(disk\/(dm-snapshot(?!-simulated)|file-copy)|network\/netns|hypervisor\/cloud-hypervisor).*|support\/leak-check|lab\/.*)\.host-spec\.ts$/;

/** Of these, what the tier lab-faults runs and the tier lab does not. Those of netns run outside in any full run. */
const FAULTS = /dm-snapshot-(crashes|faults)|netns-(crash|leftovers|policy|pool)/;

const RESULTS = '/tmp/results.json';
/** Of the console, when something failed. */
const SHOWN_CHARACTERS = 4_000;

/** Boots one lab and runs the tier's suites in it, by one jest. Patterns narrow the files, as jest's own do. */
export async function runLabTier(tier: Tier, patterns: readonly string[]): Promise<TestCounts> {
  const specs = (await specsInside(tier)).filter(
    (spec) => patterns.length === 0 || patterns.some((p) => new RegExp(p).test(spec)),
  );
  if (specs.length === 0) {
    console.log(`${tier.name}: no suite that runs inside matches ${patterns.join(' ')}`);
    return { passed: 0, failed: 0, skips: [], problems: [] };
  }
  const begun = performance.now();
  const since = () => `${((performance.now() - begun) / 1000).toFixed(1)} s`;
  let rig: LabRig | undefined;
  try {
    rig = await LabRig.open();
    console.log(`lab: images ready after ${since()}`);
    const lab = await rig.start(tier.name);
    const { cloudHypervisor = 'none' } = labEnvironment();
    console.log(`lab: up after ${since()}; ${specs.length} suites, Cloud Hypervisor: ${cloudHypervisor}`);
    return await runInside(lab, specs, join(rig.directory, 'results.json'), tier.deadlineMinutes * 60_000);
  } catch (err) {
    return problem(err instanceof Error ? err.message : String(err));
  } finally {
    await rig?.close();
  }
}

async function runInside(lab: Lab, specs: readonly string[], results: string, deadlineMs: number): Promise<TestCounts> {
  // Code that the optimizing compiler makes is code that the emulator translates anew: a third of jest's start.
  const jest = ['node', '--no-opt', '--experimental-vm-modules', '--disable-warning=ExperimentalWarning'];
  jest.push('node_modules/jest/bin/jest.js', '--config', 'test/lab/jest-in-lab.config.mjs', '--ci', '--runInBand');
  jest.push(
    '--json',
    '--outputFile',
    RESULTS,
    '--runTestsByPath',
    ...specs.map((spec) => spec.replace(/\.ts$/, '.js')),
  );
  const { exitCode } = await lab.run(jest, {
    // Standard output has the results once more.
    onOutput: (bytes, stream) => void (stream === 'stderr' && process.stderr.write(bytes)),
    timeoutMs: deadlineMs,
  });
  const counts = await collect(lab, results, exitCode);
  if (exitCode !== 0) console.log(`lab: the end of its console:\n${(await lab.console()).slice(-SHOWN_CHARACTERS)}`);
  return counts;
}

async function collect(lab: Lab, results: string, exitCode: number): Promise<TestCounts> {
  try {
    await lab.getFile(RESULTS, results);
  } catch {
    return problem(`jest ended with ${exitCode} and without results`);
  }
  const counts = countJestResults(await readFile(results, 'utf8'));
  if (exitCode !== 0 && counts.failed + counts.problems.length === 0) {
    counts.problems.push(`lab: jest ended with ${exitCode} though no test failed`);
  }
  return counts;
}

async function specsInside({ name }: Tier): Promise<string[]> {
  const entries = await readdir(join(ROOT, 'test'), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => relative(ROOT, join(entry.path, entry.name)));
  return files.filter((file) => INSIDE.test(file) && FAULTS.test(file) === (name === 'lab-faults')).toSorted();
}

function problem(text: string): TestCounts {
  return { passed: 0, failed: 0, skips: [], problems: [`lab: ${text}`] };
}
