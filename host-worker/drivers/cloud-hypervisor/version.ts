import { DomainError } from '../../../workflows/contract/errors.js';
import { CommandError, type Exec } from '../../exec.js';

/** The first that restores memory on demand; what older ones write differs in ways that nobody has tried. */
const OLDEST = 52;
/** The first that loads the rest in the background and refuses to save until that is done; before, memory was corrupted. */
const BACKGROUND_LOADING = 53;

export interface VmmVersion {
  text: string;
  major: number;
}

/** Asks the binary, and refuses one that is too old. */
export async function findVersion(exec: Exec, binary: string): Promise<VmmVersion> {
  const version = parseVersion(binary, await askVersion(exec, binary));
  if (version.major >= OLDEST) return version;
  throw new DomainError(
    'unsupported',
    `${binary} is version ${version.text}, but version ${OLDEST}.0 or newer is needed; install a newer release and name it in TORPOR_CLOUD_HYPERVISOR_BIN`,
  );
}

export function loadsInBackground(version: VmmVersion): boolean {
  return version.major >= BACKGROUND_LOADING;
}

/** `cloud-hypervisor v53.0.0`, with `-dirty` and the like for builds between releases. */
export function parseVersion(binary: string, stdout: string): VmmVersion {
  const match = /^cloud-hypervisor v((\d+)\.\d\S*)/m.exec(stdout);
  if (match?.[1] !== undefined) return { text: match[1], major: Number(match[2]) };
  throw new DomainError('unsupported', `\`${binary} --version\` does not tell its version: ${stdout.trim()}`);
}

async function askVersion(exec: Exec, binary: string): Promise<string> {
  try {
    return (await exec.run([binary, '--version'])).stdout;
  } catch (err) {
    if (!(err instanceof CommandError)) throw err;
    const remedy = 'install it on the path, or name the binary in TORPOR_CLOUD_HYPERVISOR_BIN';
    throw new DomainError(
      'unsupported',
      `Cloud Hypervisor cannot be run: ${err.message}; ${remedy}`,
      {},
      { cause: err },
    );
  }
}
