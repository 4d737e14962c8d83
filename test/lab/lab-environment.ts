import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** What a skip says that lacks the binary. */
export const CLOUD_HYPERVISOR = 'Cloud Hypervisor on PATH or in TORPOR_CLOUD_HYPERVISOR_BIN';

export interface LabEnvironment {
  cacheDir: string;
  /** Is in no package registry: it is tested where somebody has it. */
  cloudHypervisor: string | undefined;
}

/** What the environment says about labs. */
export function labEnvironment(env: NodeJS.ProcessEnv = process.env): LabEnvironment {
  const named = env['TORPOR_CLOUD_HYPERVISOR_BIN'] || undefined;
  if (named !== undefined && !isProgram(named))
    throw new Error(`TORPOR_CLOUD_HYPERVISOR_BIN names no program: ${named}`);
  const onPath = (env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'cloud-hypervisor'));
  return { cacheDir: env['TORPOR_CACHE_DIR'] || '/var/cache/torpor', cloudHypervisor: named ?? onPath.find(isProgram) };
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
