import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readFile, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { hasErrno } from '../../host-worker/errno.js';
import { ROOT } from '../support/root.js';

const SOURCE = join(ROOT, 'test/simulator/vmm');
/** Its generated code of the guest's protocol is compiled in. */
const AGENT = join(ROOT, 'guest/envd');
const BINARY = 'simulated-vmm';

/**
 * The simulated VMM, compiled once for what its sources are. Processes that do so at the same time each compile into a
 * folder of their own, and the first to finish names its folder for all.
 */
export async function ensureSimulatedVmm(): Promise<string> {
  const cache = join(process.env['TORPOR_CACHE_DIR'] ?? join(tmpdir(), 'torpor-test-cache'), 'simulated-vmm');
  const final = join(cache, await hashOfSources());
  if (await exists(join(final, BINARY))) return join(final, BINARY);
  await mkdir(cache, { recursive: true });
  const mine = await mkdtemp(join(cache, '.building-'));
  try {
    await compile(join(mine, BINARY));
    await rename(mine, final);
  } catch (err) {
    await rm(mine, { recursive: true, force: true });
    if (!hasErrno(err, 'ENOTEMPTY') && !hasErrno(err, 'EEXIST')) throw err;
  }
  return join(final, BINARY);
}

async function compile(binary: string): Promise<void> {
  const args = ['build', '-C', SOURCE, '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', binary, '.'];
  try {
    await promisify(execFile)('go', args, { env: { ...process.env, CGO_ENABLED: '0' } });
  } catch (err) {
    const reason = hasErrno(err, 'ENOENT') ? 'go is not installed; apt-get install golang' : (err as Error).message;
    throw new Error(`the simulated VMM cannot be compiled: ${reason}`, { cause: err });
  }
}

async function hashOfSources(): Promise<string> {
  const hash = createHash('sha256');
  const { stdout } = await promisify(execFile)('go', ['version']);
  hash.update(stdout);
  const sources = [...(await filesBelow(SOURCE)), ...(await filesBelow(join(AGENT, 'gen'))), join(AGENT, 'go.mod')];
  for (const path of sources.toSorted()) {
    hash.update(`\0${relative(ROOT, path)}\0`);
    hash.update(await readFile(path));
  }
  return hash.digest('hex').slice(0, 16);
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
