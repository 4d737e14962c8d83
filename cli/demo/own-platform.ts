import { mkdtempSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CliConfig, Credentials } from '../config.js';
import { ensureReady } from '../commands/setup.js';
import { Platform } from '../platform/platform.js';
import { removeHostRules } from '../platform/host-rules.js';
import { processesWith } from '../platform/host-traces.js';
import { cancelBuilds, destroyAll } from '../platform/sandbox-sweep.js';
import { ensureWarmTemplate } from '../platform/warm-template.js';
import { RestClient } from '../rest-client.js';
import type { StepReport } from '../step-report.js';

/** A platform for one demo, in a directory that goes with it. */
export class OwnPlatform {
  readonly #directory: string;
  readonly #platform: Platform;
  #client: RestClient | undefined;

  constructor(
    private readonly config: CliConfig,
    private readonly report: StepReport,
  ) {
    this.#directory = realpathSync(mkdtempSync(join(tmpdir(), 'torpor-demo-')));
    // Servers of the operator's own are not the place for a demo.
    const own = {
      ...config,
      home: this.#directory,
      databaseUrl: undefined,
      temporalAddress: undefined,
      temporalNamespace: 'default',
      temporalUiUrl: undefined,
    };
    const fail = (name: string, why: string) => report.say(`! ${name} ended: ${why}`, { ended: name, why });
    this.#platform = new Platform(own, { home: this.#directory, isDefaultHome: false, ports: undefined }, report, {
      restarting: fail,
      restarted: () => undefined,
      gaveUp: (name, error) => fail(name, error.message),
    });
  }

  async start(): Promise<Credentials> {
    this.#platform.claim();
    await ensureReady(this.config, this.report);
    const { credentials } = await this.#platform.start();
    this.#client = new RestClient({ url: credentials.api_url, key: credentials.api_key });
    const client = this.#client;
    await this.report.step(
      'warm snapshot',
      (note) => ensureWarmTemplate(client, note),
      () => 'create restores it instead of booting',
    );
    return credentials;
  }

  /** Ends machines first, then processes, then files. Returns what is left all the same. */
  async remove(): Promise<string[]> {
    const client = this.#client;
    if (client !== undefined) {
      await this.report
        .step('end machines', async (note) => {
          await cancelBuilds(client, note);
          await destroyAll(client, note);
        })
        .catch((error: unknown) =>
          this.report.say(`! ${(error as Error).message}`, { warning: (error as Error).message }),
        );
    }
    await this.#platform.stop();
    await removeHostRules(this.#platform.home.hostDirectory);
    const left = await processesWith(this.#directory);
    if (left.length > 0) return left.map((process) => `process ${process}`);
    await rm(this.#directory, { recursive: true, force: true });
    await rm(this.#platform.home.runDirectory(false), { recursive: true, force: true });
    return [];
  }
}
