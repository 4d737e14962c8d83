import { resolve } from 'node:path';
import pc from 'picocolors';
import { CliError } from '../cli-error.js';
import { DEFAULT_ROOT_HOME, type CliConfig, type Credentials } from '../config.js';
import { seconds } from '../durations.js';
import { Interruption } from '../interruption.js';
import { Platform } from '../platform/platform.js';
import { pauseAll } from '../platform/sandbox-sweep.js';
import { ensureWarmTemplate } from '../platform/warm-template.js';
import { RestClient } from '../rest-client.js';
import { StepReport } from '../step-report.js';
import { ensureReady } from './setup.js';

export interface UpOptions {
  home: string;
  port: number;
  temporalPort: number;
  uiPort: number;
  postgresPort: number;
  ephemeralPorts: boolean;
  stopVms: boolean;
  warm: boolean;
  json: boolean;
}

export async function runUp(config: CliConfig, options: UpOptions): Promise<void> {
  const report = new StepReport(options.json);
  const interruption = new Interruption();
  const collapse = deferredFailure();
  const home = resolve(options.home);
  const platform = new Platform(
    config,
    {
      home,
      isDefaultHome: home === DEFAULT_ROOT_HOME,
      ports: options.ephemeralPorts
        ? undefined
        : {
            api: options.port,
            postgres: options.postgresPort,
            temporal: options.temporalPort,
            temporalUi: options.uiPort,
          },
    },
    report,
    {
      restarting: (name, why, pauseMs) => tellRestart(report, platform.home.logFile(name), name, why, pauseMs),
      restarted: (name) => report.say(`${pc.green('✓')} ${name} serves again`, { restarted: name }),
      gaveUp: (name, error) =>
        collapse.fail(
          new CliError(`${name} cannot run: ${error.message}`, {
            suggestion: 'correct its settings and start torpor again',
            code: 'configuration',
          }),
        ),
    },
  );
  platform.claim();
  try {
    const client = await interruption.guard(bringUp(platform, config, options, report));
    await Promise.race([interruption.happened, collapse.failed]);
    if (options.stopVms)
      await report.step(
        'pausing sandboxes',
        (note) => pauseAll(client, note),
        (count) => `${count} on disk`,
      );
  } finally {
    await platform.stop();
  }
}

async function bringUp(
  platform: Platform,
  config: CliConfig,
  options: UpOptions,
  report: StepReport,
): Promise<RestClient> {
  const started = performance.now();
  await ensureReady(config, report);
  const { credentials, keyIsNew } = await platform.start();
  const client = new RestClient({ url: credentials.api_url, key: credentials.api_key });
  tellAddresses(report, credentials, keyIsNew, performance.now() - started);
  if (options.warm) {
    // Without the snapshot everything works, only slower: its failure is told and ends nothing.
    await report
      .step(
        'warm snapshot',
        (note) => ensureWarmTemplate(client, note),
        (how) => `minimal (${how})`,
      )
      .catch((error: unknown) => process.stderr.write(`${pc.yellow('!')} ${(error as Error).message}\n`));
  }
  report.say(pc.dim('Ctrl-C stops it; running machines survive.'), { up: true });
  return client;
}

function tellAddresses(report: StepReport, credentials: Credentials, keyIsNew: boolean, ms: number): void {
  const { api_url, api_key, temporal_ui_url, home } = credentials;
  const lines = [
    '',
    `Torpor is up after ${seconds(ms)}.`,
    `  API          ${pc.cyan(api_url)}`,
    `  API docs     ${pc.cyan(`${api_url}/docs`)}`,
    ...(temporal_ui_url === null ? [] : [`  Temporal UI  ${pc.cyan(temporal_ui_url)}`]),
    keyIsNew
      ? `  API key      ${api_key}  (shown once; kept in ${home}/credentials.json)`
      : `  API key      in ${home}/credentials.json`,
    ...(home === DEFAULT_ROOT_HOME ? [] : [`  for the other commands: export TORPOR_HOME=${home}`]),
    '',
  ];
  report.say(lines.join('\n'), {
    ready: true,
    api_url,
    docs_url: `${api_url}/docs`,
    temporal_ui_url,
    temporal_address: credentials.temporal_address,
    home,
    ...(keyIsNew ? { api_key } : {}),
    seconds: Math.round(ms) / 1000,
  });
}

function tellRestart(report: StepReport, logFile: string, name: string, why: string, pauseMs: number): void {
  const text = `${pc.yellow('!')} ${name} ended (${why}) and is started again in ${seconds(pauseMs)}; its log: ${logFile}`;
  report.say(text, { restarting: name, why, pause_seconds: pauseMs / 1000, log: logFile });
}

function deferredFailure(): { failed: Promise<never>; fail: (error: CliError) => void } {
  let fail: (error: CliError) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  failed.catch(() => undefined); // it may fail while nobody waits for it yet
  return { failed, fail };
}
