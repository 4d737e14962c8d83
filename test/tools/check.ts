/**
 * `npm run check [-- part…]`: everything that can be said about the sources without running the product. Parts run two
 * at a time; each is one line when it passes and its whole output when it does not.
 */
import { runCommand } from './run-command.js';

interface Part {
  name: string;
  argv: readonly string[];
  /** A part that reads what this one writes. */
  after?: string;
}

const TOOL = [process.execPath, '--import', './test/tools/typescript.mjs'];
const SOURCES = ['api', 'workflows', 'activities', 'host-worker', 'proto', 'migrations', 'cli', 'test', 'bench'];

/** The longest first, so that no processor idles at the end. The build includes the workflow bundle. */
const PARTS: readonly Part[] = [
  { name: 'build', argv: ['npm', 'run', '--silent', 'build'] },
  { name: 'types', argv: ['tsc', '--noEmit', '-p', 'tsconfig.json'] },
  { name: 'lint', argv: ['oxlint', '--type-aware', '--disable-nested-config'] },
  { name: 'format', argv: ['prettier', '--check', '--log-level', 'warn', '.'] },
  { name: 'imports', argv: ['depcruise', '--config', '.dependency-cruiser.mjs', ...SOURCES] },
  { name: 'unused', argv: ['knip', '--no-progress'] },
  { name: 'lock', argv: [...TOOL, 'test/tools/check-lock.ts'] },
  { name: 'protocol', argv: [...TOOL, 'test/tools/check-protocol.ts'] },
  { name: 'openapi', argv: [...TOOL, 'test/tools/check-openapi.ts'], after: 'build' },
];
const AT_ONCE = 2;

async function runPart(part: Part): Promise<boolean> {
  const { exitCode, output, seconds } = await runCommand(part.argv, { output: 'capture' });
  const passed = exitCode === 0;
  console.log(`${passed ? 'ok    ' : 'FAILED'} ${part.name.padEnd(9)} ${seconds.toFixed(1).padStart(5)} s`);
  // A linter that only warns passes, but not in silence.
  if (!passed || /\b[1-9]\d* warnings?\b/.test(output)) console.log(`${output.trimEnd()}\n`);
  if (!passed) console.log(`       repeat it: npm run check -- ${part.name}\n`);
  return passed;
}

/** Part by part from one queue; a part whose predecessor failed would only repeat that failure, so it is not run. */
async function runParts(parts: readonly Part[]): Promise<string[]> {
  const done = new Map<string, Promise<boolean>>();
  const failed: string[] = [];
  const queue = [...parts];
  const work = async (): Promise<void> => {
    for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
      const { name, after } = part;
      const earlier = after === undefined ? undefined : done.get(after);
      const result = earlier === undefined || (await earlier) ? runPart(part) : skipPart(name, after);
      done.set(name, Promise.resolve(result));
      if (!(await result)) failed.push(name);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return failed;
}

function skipPart(name: string, after: string | undefined): boolean {
  console.log(`FAILED ${name.padEnd(9)}         not run: ${after} failed`);
  return false;
}

function chooseParts(names: readonly string[]): readonly Part[] {
  const unknown = names.find((name) => !PARTS.some((part) => part.name === name));
  if (unknown !== undefined) {
    console.error(`no such part: ${unknown} (there are ${PARTS.map(({ name }) => name).join(', ')})`);
    process.exit(2);
  }
  return names.length === 0 ? PARTS : PARTS.filter(({ name }) => names.includes(name));
}

const started = performance.now();
const parts = chooseParts(process.argv.slice(2));
const failed = await runParts(parts);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(
  failed.length === 0 ? `check passed in ${seconds} s` : `check failed in ${seconds} s: ${failed.join(', ')}`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
