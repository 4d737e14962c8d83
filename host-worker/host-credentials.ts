import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from './durable-file.js';
import { hasErrno } from './errno.js';
import { StartError } from './start-error.js';

/** Who this host is to the control plane, and what the API needs to reach its guests. */
export interface HostCredentials {
  /** Absent until the host is registered. */
  registered?: { hostId: string; token: string };
  dataPlaneToken: string;
}

const FILE = 'host.json';

/** `host.json` in the data directory, readable by its owner only. */
export class CredentialsFile {
  readonly #path: string;

  constructor(private readonly dataDir: string) {
    this.#path = join(dataDir, FILE);
  }

  async load(): Promise<HostCredentials> {
    try {
      return check(JSON.parse(await readFile(this.#path, 'utf8')));
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return { dataPlaneToken: randomBytes(32).toString('hex') };
      throw new StartError(
        `${this.#path} cannot be read (${err instanceof Error ? err.message : String(err)}); restore it, or delete it to register this host anew, which leaves its present sandboxes behind`,
        { cause: err },
      );
    }
  }

  async save(credentials: HostCredentials): Promise<void> {
    await mkdir(this.dataDir, { recursive: true, mode: 0o711 });
    await writeDurably(this.#path, `${JSON.stringify(credentials, null, 2)}\n`, 0o600);
  }
}

function check(content: unknown): HostCredentials {
  const { dataPlaneToken, registered } = content as Partial<HostCredentials>;
  if (typeof dataPlaneToken !== 'string') throw new Error('it has no dataPlaneToken');
  if (registered === undefined) return { dataPlaneToken };
  const { hostId, token } = registered;
  if (typeof hostId !== 'string' || typeof token !== 'string') throw new Error('its registration is incomplete');
  return { dataPlaneToken, registered: { hostId, token } };
}
