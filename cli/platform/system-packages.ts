import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../cli-error.js';
import { PROJECT_ROOT } from '../project-root.js';
import { runCommand, tryCommand } from './command.js';

const HOST_PACKAGES = 'cli/platform/host-packages.txt';
const IMAGE_PACKAGES = 'guest/image/host-packages.txt';

/** Names of one list: `#` starts a comment, `[amd64]` limits a line to that architecture. */
export function parsePackageList(text: string, architecture: string): string[] {
  const names: string[] = [];
  for (const line of text.split('\n')) {
    const [name, only] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (name === undefined || name === '') continue;
    if (only === undefined || only === `[${architecture}]`) names.push(name);
  }
  return names;
}

/** Which of the wanted packages `dpkg-query -W -f '${db:Status-Status} ${Package}\n'` does not call installed. */
export function missingPackages(wanted: readonly string[], dpkgOutput: string): string[] {
  const installed = new Set(
    dpkgOutput
      .split('\n')
      .filter((line) => line.startsWith('installed '))
      .map((line) => line.slice('installed '.length).trim()),
  );
  return wanted.filter((name) => !installed.has(name));
}

/** What runs guests and, unless they were built elsewhere, what builds their images. */
export function wantedPackages(builds: boolean): string[] {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const names = [HOST_PACKAGES, ...(builds ? [IMAGE_PACKAGES] : [])]
    .map((file) => join(PROJECT_ROOT, file))
    .filter((file) => existsSync(file))
    .flatMap((file) => parsePackageList(readFileSync(file, 'utf8'), architecture));
  return [...new Set(names)];
}

export async function findMissingPackages(builds: boolean): Promise<string[]> {
  const wanted = wantedPackages(builds);
  // Exit code 1 only means that some are unknown; those are not in the output.
  const { stdout } = await tryCommand(['dpkg-query', '-W', '-f', '${db:Status-Status} ${Package}\n', ...wanted]);
  return missingPackages(wanted, stdout);
}

export function installCommand(packages: readonly string[]): [string, ...string[]] {
  return ['apt-get', 'install', '--yes', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', ...packages];
}

/** Installs what is missing. Package lists are fetched only when the first try shows that they are old or absent. */
export async function installPackages(packages: readonly string[], onLine: (line: string) => void): Promise<void> {
  const command = installCommand(packages);
  if (process.getuid?.() !== 0) {
    throw new CliError(`these packages are missing: ${packages.join(' ')}`, {
      suggestion: `install them and run \`torpor setup\` again: sudo apt-get update && sudo ${command.join(' ')}`,
      code: 'packages_missing',
    });
  }
  const options = { timeoutMs: 900_000, env: { DEBIAN_FRONTEND: 'noninteractive' }, onLine };
  const first = await tryCommand(command, options);
  if (first.exitCode === 0) return;
  await runCommand(['apt-get', 'update'], options);
  await runCommand(command, options);
}
