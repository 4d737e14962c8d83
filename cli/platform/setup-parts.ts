import type { CliConfig } from '../config.js';
import { CliError } from '../cli-error.js';
import { tryCommand } from './command.js';
import { ensureGuestImage } from './guest-image.js';
import { ensurePostgresBinaries } from './postgres-binaries.js';
import { findMissingPackages, installPackages } from './system-packages.js';
import { DATABASE_USER, ensureKvmMember, ensureSystemUser } from './system-users.js';
import { ensureTemporal } from './temporal-binary.js';

/** One thing that must be there before the platform can run. `ensure` does nothing when it is. */
export interface SetupPart {
  title: string;
  /** Returns what to show beside the part. */
  ensure: (note: (line: string) => void) => Promise<string>;
}

export function setupParts(config: CliConfig, verbose: boolean): SetupPart[] {
  const root = process.getuid?.() === 0;
  const builds = config.images === undefined;
  const parts: SetupPart[] = [{ title: 'system packages', ensure: (note) => ensurePackages(builds, note) }];
  if (builds) parts.push({ title: 'go and python', ensure: () => checkToolchains({ ...config.inherited }) });
  parts.push({
    title: 'temporal',
    ensure: async (note) => {
      const { path, from } = await ensureTemporal(config, note);
      return `${path} (${from})`;
    },
  });
  if (config.databaseUrl === undefined) {
    parts.push({ title: 'postgres', ensure: async () => (await ensurePostgresBinaries(config.cacheDir)).postgres });
  }
  if (root) parts.push({ title: 'system users', ensure: () => ensureUsers(config.vmUser) });
  parts.push({
    title: 'guest image',
    ensure: async (note) => {
      const index = await ensureGuestImage(config, verbose, note);
      return `kernel ${index.kernel.version}, images: ${Object.keys(index.images).join(', ')}`;
    },
  });
  return parts;
}

async function ensurePackages(builds: boolean, note: (line: string) => void): Promise<string> {
  let missing: string[];
  try {
    missing = await findMissingPackages(builds);
  } catch (error) {
    if (error instanceof CliError && error.code === 'not_installed') return noDpkg();
    throw error;
  }
  if (missing.length === 0) return 'all there';
  note(`installing ${missing.join(' ')}`);
  await installPackages(missing, note);
  return `installed ${missing.join(' ')}`;
}

function noDpkg(): never {
  throw new CliError('this is neither Debian nor Ubuntu (there is no dpkg-query)', {
    suggestion: 'torpor needs one of them on its hosts; the command alone works anywhere with TORPOR_API_URL',
    code: 'unsupported',
  });
}

/** Both may come from anywhere (a tarball, a version manager), so they are tried rather than looked up. */
async function checkToolchains(env: Record<string, string>): Promise<string> {
  const found: string[] = [];
  for (const [argv, remedy] of [
    [['go', 'version'], 'install Go 1.21 or newer (https://go.dev/dl) and see that it is on PATH'],
    [['python3', '--version'], 'install it: apt-get install python3'],
  ] as const) {
    const result = await tryCommand([...argv], { env }).catch((error: unknown) => {
      throw new CliError((error as Error).message, { suggestion: remedy, code: 'toolchain_missing' });
    });
    if (result.exitCode !== 0)
      throw new CliError(`${argv.join(' ')} failed: ${result.stderr.trim()}`, { suggestion: remedy });
    found.push(result.stdout.trim().replace(/^go version /, ''));
  }
  return found.join(', ');
}

async function ensureUsers(vmUser: string): Promise<string> {
  const vm = await ensureSystemUser(vmUser);
  const kvm = await ensureKvmMember(vmUser);
  const database = await ensureSystemUser(DATABASE_USER);
  return `${vmUser} (${vm}${kvm === 'added' ? ', now in group kvm' : ''}), ${DATABASE_USER} (${database})`;
}
