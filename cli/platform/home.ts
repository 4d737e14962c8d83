import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../cli-error.js';
import { credentialsFile, type Credentials } from '../config.js';
import { checkReachableByOthers } from './system-users.js';

export interface Secrets {
  postgresPassword: string;
  registrationToken: string;
  apiKey: string;
}

/** Where `torpor up` keeps everything, by name. */
export class Home {
  constructor(readonly directory: string) {}

  get lockFile(): string {
    return join(this.directory, 'lock');
  }
  get processesFile(): string {
    return join(this.directory, 'run/processes.json');
  }
  get postgresDirectory(): string {
    return join(this.directory, 'postgres');
  }
  get temporalDatabase(): string {
    return join(this.directory, 'temporal/temporal.db');
  }
  get hostDirectory(): string {
    return join(this.directory, 'host');
  }
  logFile(name: string): string {
    return join(this.directory, 'logs', `${name}.log`);
  }

  /** Sockets of the machines: short, because socket paths are, and of this directory alone. */
  runDirectory(isDefault: boolean): string {
    if (isDefault) return '/run/torpor';
    return `/run/torpor-${createHash('sha256').update(this.directory).digest('hex').slice(0, 8)}`;
  }

  prepare(): void {
    mkdirSync(this.directory, { recursive: true });
    // Others may pass through to the files that are theirs, and list nothing.
    chmodSync(this.directory, 0o711);
    checkReachableByOthers(this.directory, '--home or TORPOR_HOME');
    for (const [name, mode] of [
      ['logs', 0o700],
      ['run', 0o700],
      ['temporal', 0o700],
      ['host', 0o711],
    ] as const) {
      mkdirSync(join(this.directory, name), { recursive: true, mode });
    }
  }

  checkSpace(): void {
    const { bavail, bsize } = statfsSync(this.directory);
    const free = bavail * bsize;
    if (free >= LEAST_FREE_BYTES) return;
    throw new CliError(
      `the disk is full: ${Math.floor(free / 1024 ** 2)} MiB are free in ${this.directory}, and at least ${LEAST_FREE_BYTES / 1024 ** 2} MiB are needed`,
      {
        suggestion: 'free some space, or choose another place with --home or TORPOR_HOME',
        code: 'disk_full',
      },
    );
  }

  /** Made once and kept: passwords and the first API key. */
  secrets(): { secrets: Secrets; made: boolean } {
    const file = join(this.directory, 'secrets.json');
    if (existsSync(file)) return { secrets: JSON.parse(readFileSync(file, 'utf8')) as Secrets, made: false };
    const secrets: Secrets = {
      postgresPassword: randomBytes(24).toString('base64url'),
      registrationToken: randomBytes(24).toString('base64url'),
      apiKey: `tpr_${randomBytes(20).toString('hex')}`,
    };
    writePrivately(file, secrets);
    return { secrets, made: true };
  }

  writeCredentials(credentials: Credentials): void {
    writePrivately(credentialsFile(this.directory), credentials);
  }
}

const LEAST_FREE_BYTES = 1024 ** 3;

/** Complete or not there at all, for its owner only: without it the database could not be opened again. */
function writePrivately(file: string, content: unknown): void {
  const fresh = `${file}.new`;
  const fd = openSync(fresh, 'w', 0o600);
  try {
    writeSync(fd, `${JSON.stringify(content, null, 2)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(fresh, file);
}
