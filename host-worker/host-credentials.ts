import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from './durable-file.js';
import { hasErrno } from './errno.js';
import { JOURNAL_SUFFIX } from './journal.js';
import { namesIn } from './sandbox-folder.js';
import { StartError } from './start-error.js';

/** Who this host is to the control plane, and what the API needs to reach its guests. */
export interface HostCredentials {
  /** Absent until the host is registered. */
  registered?: { hostId: string; token: string };
  dataPlaneToken: string;
}

const FILE = 'host.json';
/** Directory of the journal, which exists as soon as a host has served. */
export const JOURNAL = 'journal';

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
      if (!hasErrno(err, 'ENOENT'))
        throw this.#lost(`cannot be read (${err instanceof Error ? err.message : String(err)})`, err);
      // A machine that has served before would quietly become another host, and its sandboxes nobody's.
      if ((await journalFiles(this.dataDir)).length > 0)
        throw this.#lost('is missing, and this machine has served as a host before', err);
      return { dataPlaneToken: randomBytes(32).toString('hex') };
    }
  }

  #lost(how: string, cause: unknown): StartError {
    return new StartError(
      `${this.#path} ${how}. It says which host this is: restore it from a backup. ` +
        `Without one this machine can only be registered as a new host, which keeps its present sandboxes on its disk but leaves them behind; ` +
        `for that move ${this.#path} and ${join(this.dataDir, JOURNAL)} to another place and start again`,
      { cause },
    );
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

/** One per sandbox that this machine has served, for a day after its end. */
async function journalFiles(dataDir: string): Promise<string[]> {
  return (await namesIn(join(dataDir, JOURNAL))).filter((name) => name.endsWith(JOURNAL_SUFFIX));
}
