import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readConfig } from '../../cli/config.js';
import { runCommand } from '../../cli/platform/command.js';
import { identityOf } from '../../cli/platform/process-identity.js';
import { ensureTemporal } from '../../cli/platform/temporal-binary.js';
import { clusterVersion } from './compose-file.js';

/** The programs of the images that docker-compose.temporal.yml names. */
export interface ClusterBinaries {
  server: string;
  sqlTool: string;
  /** The client that sets up the namespace. */
  temporal: string;
}

const MODULE = 'go.temporal.io/server';
/** What the images call the module's programs. */
const PROGRAMS = { server: 'temporal-server', sql: 'temporal-sql-tool' } as const;
const STAGING = '.building-cluster-';
/** Eight minutes on two idle cores; others may be at work. */
const BUILD_MS = 60 * 60_000;

/** Builds the server from its Go module where the cache has none: its makers publish no program outside of images. */
export async function ensureClusterBinaries(cacheDir: string, note: (text: string) => void): Promise<ClusterBinaries> {
  const version = clusterVersion();
  const directory = join(cacheDir, `temporal-cluster-${version}`);
  if (!existsSync(directory)) await build(version, cacheDir, directory, note);
  const { path: temporal } = await ensureTemporal({ ...readConfig(), cacheDir }, note);
  return { server: join(directory, PROGRAMS.server), sqlTool: join(directory, PROGRAMS.sql), temporal };
}

async function build(version: string, cacheDir: string, target: string, note: (text: string) => void): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  await removeLeftovers(cacheDir);
  const staging = await mkdtemp(join(cacheDir, `${STAGING}${process.pid}-`));
  note(`building Temporal's server ${version} from its Go module, which takes minutes and is done once`);
  const packages = [`${MODULE}/cmd/server@v${version}`, `${MODULE}/cmd/tools/sql@v${version}`];
  try {
    // Nice, because the tests of other tiers may be running; stripped, because nobody debugs it.
    await runCommand(['nice', 'go', 'install', '-ldflags=-s -w', ...packages], {
      env: { ...readConfig().inherited, GOBIN: staging },
      timeoutMs: BUILD_MS,
    });
    for (const [built, name] of Object.entries(PROGRAMS)) await rename(join(staging, built), join(staging, name));
    await rename(staging, target);
  } catch (error) {
    await rm(staging, { recursive: true, force: true });
    // Somebody else may have built the same meanwhile; theirs is as good.
    if (!existsSync(target)) throw error;
  }
}

/** Of builds that were killed; the name tells whose it is. */
async function removeLeftovers(cacheDir: string): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const pid = name.startsWith(STAGING) ? Number.parseInt(name.slice(STAGING.length), 10) : undefined;
    if (pid === undefined || identityOf(pid) !== undefined) continue;
    await rm(join(cacheDir, name), { recursive: true, force: true });
  }
}
