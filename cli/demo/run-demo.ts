import { join } from 'node:path';
import pc from 'picocolors';
import { CliError } from '../cli-error.js';
import { readCredentials, type CliConfig, type Credentials } from '../config.js';
import { seconds } from '../durations.js';
import { EXIT } from '../exit-codes.js';
import { Interruption } from '../interruption.js';
import { waitForOperation } from '../operation-wait.js';
import { Home } from '../platform/home.js';
import { lockHolder } from '../platform/lock.js';
import { RestClient } from '../rest-client.js';
import { StepReport } from '../step-report.js';
import { Claims } from './claims.js';
import { OwnPlatform } from './own-platform.js';
import { tellStory } from './story.js';

export async function runDemo(config: CliConfig, options: { own: boolean; json: boolean }): Promise<void> {
  checkPossible(config);
  const report = new StepReport(options.json);
  const claims = new Claims(report);
  const interruption = new Interruption();
  const started = performance.now();
  const running = options.own ? undefined : runningPlatform(config);
  if (running === undefined) {
    const own = new OwnPlatform(config, report);
    try {
      await play(await interruption.guard(own.start()), report, claims, interruption);
    } finally {
      claims.none('nothing of the demo platform is left', await own.remove());
    }
  } else {
    report.say(`Using the platform at ${running.api_url}.`, { using: running.api_url });
    await play(running, report, claims, interruption);
  }
  conclude(report, claims, performance.now() - started);
}

/** Claims about the host can only be checked on it, and by somebody who may look. */
function checkPossible(config: CliConfig): void {
  if (config.apiUrl !== undefined && config.apiUrl !== readCredentials(config.home)?.api_url) {
    throw new CliError(
      `TORPOR_API_URL=${config.apiUrl} is not the platform of this machine, and the demo looks at the host itself`,
      {
        suggestion: 'unset TORPOR_API_URL, or run the demo on the host',
        exitCode: EXIT.usage,
      },
    );
  }
  if (process.getuid?.() !== 0) {
    throw new CliError('the demo needs root: it looks at processes, namespaces and firewall rules', {
      suggestion: 'sudo torpor demo',
      code: 'not_root',
    });
  }
}

function runningPlatform(config: CliConfig): Credentials | undefined {
  const credentials = readCredentials(config.home);
  return credentials !== undefined && lockHolder(new Home(config.home).lockFile) !== undefined
    ? credentials
    : undefined;
}

async function play(
  credentials: Credentials,
  report: StepReport,
  claims: Claims,
  interruption: Interruption,
): Promise<void> {
  const client = new RestClient({ url: credentials.api_url, key: credentials.api_key });
  let created: string | undefined;
  try {
    await interruption.guard(
      tellStory({
        client,
        report,
        claims,
        dataDirectory: join(credentials.home, 'host'),
        temporal: { address: credentials.temporal_address, namespace: credentials.temporal_namespace },
        onCreated: (id) => (created = id),
        signal: interruption.signal,
      }),
    );
  } finally {
    if (created !== undefined) await destroy(client, created);
  }
}

/** Accepts that it is destroyed already, which is how the story ends. */
async function destroy(client: RestClient, id: string): Promise<void> {
  const { operation } = await client.destroy(id);
  if (operation !== null) await waitForOperation(client, operation.id, () => undefined);
}

function conclude(report: StepReport, claims: Claims, ms: number): void {
  const { held, broken } = claims;
  if (broken.length > 0) {
    throw new CliError(
      `${broken.length} of ${held + broken.length} claims do not hold:\n${broken.map((claim) => `  ${claim}`).join('\n')}`,
      { code: 'claim_broken' },
    );
  }
  report.say(pc.bold(`\nAll ${held} claims hold, after ${seconds(ms)}.`), {
    claims: held,
    ok: true,
    seconds: Math.round(ms) / 1000,
  });
}
