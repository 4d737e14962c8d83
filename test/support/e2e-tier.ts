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
import { neighbours, slotsAhead, takenSlots } from './e2e-neighbours.js';
import { TEMPLATE } from './e2e-template.js';
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
  host: Pick<Tier, 'hostDirectory' | 'runDirectory'>;
  home: string;
  before: MachineSnapshot;
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
  const host = { hostDirectory: platform.home.hostDirectory, runDirectory: platform.home.runDirectory(false) };
  shared = { platform, host, home, before: await snapshotMachine(looked(host, home, [])) };
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
      ...host,
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
  const { platform, host, home, before } = shared;
  shared = undefined;
  // Whatever became of the database, the processes are to be ended.
  const ids = await idsOf(process.env[VARIABLE]).catch(() => []);
  await platform.stop();
  await removeHostRules(host.hostDirectory);
  await rm(host.runDirectory, { recursive: true, force: true });
  const { report } = await settledDifference(before, looked(host, home, ids));
  if (report !== '') throw new Error(`the platform in ${home} has ended and left this:\n${report}`);
  await rm(home, { recursive: true, force: true });
}

function looked(host: Shared['host'], home: string, ids: readonly string[]): MachineOptions {
  // `ip netns` mounts its folder when it makes the first namespace since the machine started.
  const ignore = [/^mount .* on \/run\/netns$/, ...neighbours(host, ids)];
  const also = { 'address slot': () => takenSlots(host), 'network kept ahead': () => slotsAhead(host) };
  return { directories: [host.runDirectory], marks: [home], ignore, also };
}

/** What the platform may have made things for; nothing when it did not come up. */
async function idsOf(tier: string | undefined): Promise<string[]> {
  if (tier === undefined) return [];
  return inDatabase((JSON.parse(tier) as Tier).databaseUrl, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      'SELECT id FROM sandboxes UNION SELECT id FROM template_builds',
    );
    return rows.map(({ id }) => id);
  });
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
  await inDatabase(databaseUrl, async (client) => {
    await client.query(`INSERT INTO teams (id, name) VALUES ('other', 'Other')`);
    await client.query(
      `INSERT INTO api_keys (id, team_id, name, prefix, hash) VALUES ('other', 'other', 'test', $1, $2)`,
      [key.slice(0, 12), createHash('sha256').update(key).digest('hex')],
    );
  });
  return key;
}

async function inDatabase<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
