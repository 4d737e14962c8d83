import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../cli/config.js';
import { ensureTemporal } from '../../cli/platform/temporal-binary.js';
import type { Tier } from '../support/e2e-tier.js';
import { ROOT } from '../support/root.js';

export type Variables = Partial<
  Record<'SANDBOX' | 'OP' | 'HOST' | 'TEAM' | 'STEP' | 'PID' | 'AGO', string | undefined>
>;

export interface Output {
  stdout: string;
  stderr: string;
}

/** Far above what any command of the runbook takes; waiting for an operation is the longest. */
const DEADLINE_MS = 150_000;

/** Any status but 0 ends a block and fails it, except 8, which says that something is left: a page may be about that. */
const EXIT_RULE = `trap 'status=$?; if [ $status -eq 8 ]; then echo "exit status 8" >&2; else exit $status; fi' ERR\n`;

/** The shell of a person on call: `torpor` and `temporal` on the path, and the variables of the page. */
export class RunbookShell {
  private constructor(
    private readonly folder: string,
    private readonly tier: Tier,
  ) {}

  static async open(tier: Tier): Promise<RunbookShell> {
    const folder = await mkdtemp(join(tmpdir(), 'torpor-runbook-'));
    const torpor = join(folder, 'torpor');
    await writeFile(torpor, `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'dist/cli/main.js')}' "$@"\n`);
    await chmod(torpor, 0o755);
    const { path } = await ensureTemporal(readConfig(), () => undefined);
    await symlink(path, join(folder, 'temporal'));
    return new RunbookShell(folder, tier);
  }

  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Rejects, with all output, when a command of it fails. */
  run(code: string, variables: Variables): Promise<Output> {
    const { home, apiUrl, apiKey, temporalAddress, temporalNamespace } = this.tier;
    const given = Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const env = {
      PATH: `${this.folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: this.folder,
      LC_ALL: 'C.UTF-8',
      NO_COLOR: '1',
      TORPOR_HOME: home,
      TEMPORAL_ADDRESS: temporalAddress,
      TEMPORAL_NAMESPACE: temporalNamespace,
      URL: apiUrl,
      KEY: apiKey,
      ...Object.fromEntries(given),
    };
    return new Promise((resolve, reject) => {
      // An unset variable fails: the page would have run something else than it says. Without --norc a bash whose
      // standard input is a socket takes itself for a remote login and reads the machine's settings.
      const argv = ['--norc', '-o', 'nounset', '-o', 'pipefail', '-c', `${EXIT_RULE}${code}:`];
      execFile('bash', argv, { env, timeout: DEADLINE_MS, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
        if (error) reject(new Error(`${code}ended with ${error.code ?? error.signal}\n${stdout}\n${stderr}`));
        else resolve({ stdout, stderr });
      });
    });
  }
}
