import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { readConfig, type CliConfig } from '../../cli/config.js';
import { removeHostRules } from '../../cli/platform/host-rules.js';
import { Platform } from '../../cli/platform/platform.js';
import { freePorts } from '../../cli/platform/ports.js';
import { postgresUrl } from '../../cli/platform/postgres-server.js';
import { StepReport } from '../../cli/step-report.js';
import { Api } from './e2e-api.js';
import { settledDifference, snapshotMachine, type MachineOptions, type MachineSnapshot } from './leak-check.js';

/** What the files of the tier are told about the platform that they share. */
export interface Tier {
  apiUrl: string;
  apiKey: string;
  /** Of another team. */
  otherKey: string;
  registrationToken: string;
  home: string;
  /** Where the host worker keeps what is durable, and its sockets. */
  hostDirectory: string;
  runDirectory: string;
  databaseUrl: string;
  temporalAddress: string;
  temporalNamespace: string;
}

/** All sandboxes of the tier are made from it. Small, so that saving and restoring it takes a moment. */
export const TEMPLATE = { template: 'minimal', vcpus: 1, memory_mb: 256 } as const;

const VARIABLE = 'TORPOR_TEST_E2E_TIER';
/** One line per process that ended by itself. */
export const restartsFile = (home: string): string => join(home, 'restarts.log');

export function sharedTier(): Tier {
  const text = process.env[VARIABLE];
  if (text === undefined) throw new Error(`${VARIABLE} is not set: jest's set-up of the tier did not run`);
  return JSON.parse(text) as Tier;
}

interface Shared {
  platform: Platform;
  home: string;
  before: MachineSnapshot;
  looked: MachineOptions;
}

let shared: Shared | undefined;

export async function startSharedPlatform(): Promise<void> {
  const home = await realpath(await mkdtemp(join(tmpdir(), 'torpor-e2e-')));
  const config = ownServersOnly(readConfig(), home);
  const [api = 0, postgres = 0, temporal = 0, temporalUi = 0] = await freePorts(4);
  const report = new StepReport(false);
  const note = (name: string, what: string) => void appendFile(restartsFile(home), `${name} ${what}\n`);
  const options = { home, isDefaultHome: false, ports: { api, postgres, temporal, temporalUi } };
  const platform = new Platform(config, options, report, {
    restarting: (name, why) => note(name, `ended: ${why}`),
    restarted: () => undefined,
    gaveUp: (name, error) => note(name, `gave up: ${error.message}`),
  });
  // `ip netns` mounts its folder when it makes the first namespace since the machine started.
  const looked = {
    directories: [platform.home.runDirectory(false)],
    marks: [home],
    ignore: [/^mount .* on \/run\/netns$/],
  };
  shared = { platform, home, looked, before: await snapshotMachine(looked) };
  try {
    platform.claim();
    const { credentials } = await platform.start();
    const { secrets } = platform.home.secrets();
    const databaseUrl = postgresUrl(postgres, secrets.postgresPassword);
    const tier: Tier = {
      apiUrl: credentials.api_url,
      apiKey: credentials.api_key,
      otherKey: await makeOtherTeam(databaseUrl),
      registrationToken: secrets.registrationToken,
      home,
      hostDirectory: platform.home.hostDirectory,
      runDirectory: platform.home.runDirectory(false),
      databaseUrl,
      temporalAddress: credentials.temporal_address,
      temporalNamespace: credentials.temporal_namespace,
    };
    await report.step('warm template', () => new Api(tier.apiUrl, tier.apiKey).build(TEMPLATE));
    process.env[VARIABLE] = JSON.stringify(tier);
  } catch (error) {
    await stopSharedPlatform().catch((left: unknown) => console.error(left));
    throw error;
  }
}

/** Throws when the platform, ended in good order, leaves anything on the machine. */
export async function stopSharedPlatform(): Promise<void> {
  if (!shared) return;
  const { platform, home, before, looked } = shared;
  shared = undefined;
  await platform.stop();
  await removeHostRules(platform.home.hostDirectory);
  await rm(platform.home.runDirectory(false), { recursive: true, force: true });
  const { report } = await settledDifference(before, looked);
  if (report !== '') throw new Error(`the platform in ${home} has ended and left this:\n${report}`);
  await rm(home, { recursive: true, force: true });
}

/** What the environment says of servers and directories is for the platform of whoever runs the tests. */
function ownServersOnly(config: CliConfig, home: string): CliConfig {
  const foreign =
    /^(DATABASE_URL|TEMPORAL_|TORPOR_(RUN_DIR|DATA_|API_|HOST_|TEMPORAL_UI|REGISTRATION|BOOTSTRAP|NETWORK|CAPACITY))/;
  const inherited = Object.fromEntries(Object.entries(config.inherited).filter(([name]) => !foreign.test(name)));
  const none = { databaseUrl: undefined, temporalAddress: undefined, temporalUiUrl: undefined };
  return { ...config, ...none, home, temporalNamespace: 'default', inherited };
}

/** There are no accounts to make one with, so its rows are written as the API's start writes those of the first. */
async function makeOtherTeam(databaseUrl: string): Promise<string> {
  const key = `tpr_${randomBytes(20).toString('hex')}`;
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(`INSERT INTO teams (id, name) VALUES ('other', 'Other')`);
    await client.query(
      `INSERT INTO api_keys (id, team_id, name, prefix, hash) VALUES ('other', 'other', 'test', $1, $2)`,
      [key.slice(0, 12), createHash('sha256').update(key).digest('hex')],
    );
  } finally {
    await client.end();
  }
  return key;
}
