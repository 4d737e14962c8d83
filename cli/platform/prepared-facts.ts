import type { CliConfig } from '../config.js';
import { readImages } from './guest-image.js';
import { fact, type Fact, program } from './machine-facts.js';
import { findPostgresBinaries } from './postgres-binaries.js';
import { findUser } from './system-users.js';
import { findTemporal, temporalVersion } from './temporal-binary.js';

/** What `torpor setup` makes, as far as it is not somebody else's. */
export function imagesFact(config: CliConfig): Fact {
  const index = readImages(config);
  const names = Object.keys(index?.images ?? {});
  const ok = index !== undefined && names.length > 0;
  const detail = ok
    ? `kernel ${index.kernel.version}, agent ${index.agent.version}, ${names.join(', ')}`
    : `nothing is built in ${config.cacheDir}`;
  return fact('guest image', true, { ok, detail }, 'torpor setup');
}

export function userFact(name: string): Fact {
  const user = findUser(name);
  const detail = user === undefined ? `there is no user ${name}` : `${name} (uid ${user.uid})`;
  return fact('vm user', true, { ok: user !== undefined, detail }, 'torpor setup (as root)');
}

export async function temporalFact(config: CliConfig): Promise<Fact> {
  if (config.temporalAddress !== undefined) {
    return fact(
      'temporal',
      true,
      { ok: true, detail: `the server at ${config.temporalAddress} (TEMPORAL_ADDRESS)` },
      '',
    );
  }
  try {
    const found = await findTemporal(config);
    if (found === undefined) return fact('temporal', true, { ok: false, detail: 'not found' }, 'torpor setup');
    return fact('temporal', true, { ok: true, detail: `${await temporalVersion(found.path)}, from ${found.from}` }, '');
  } catch (error) {
    return fact(
      'temporal',
      true,
      { ok: false, detail: (error as Error).message },
      'set TORPOR_TEMPORAL_BIN to a program that works, or unset it',
    );
  }
}

export async function postgresFact(config: CliConfig): Promise<Fact> {
  if (config.databaseUrl !== undefined) {
    return fact('postgres', true, { ok: true, detail: 'the server of DATABASE_URL' }, '');
  }
  try {
    const found = await findPostgresBinaries(config.cacheDir);
    if (found === undefined) return fact('postgres', true, { ok: false, detail: 'not prepared yet' }, 'torpor setup');
    return await program('postgres', true, [found.postgres, '--version'], 'torpor setup');
  } catch (error) {
    return fact('postgres', true, { ok: false, detail: (error as Error).message }, 'npm ci; torpor setup');
  }
}
