import { resolve } from 'node:path';
import { ORPHAN_GRACE_SECONDS } from '../activities/control/orphans.activities.js';

/** What the API process and the control worker are told by their environment. */
export interface Config {
  databaseUrl: string;
  temporalAddress: string;
  temporalNamespace: string;
  /** Where people look at runs; null = links are not given. */
  temporalUiUrl: string | null;
  listen: { host: string; port: number };
  /** Hosts register with it; null = no host can. */
  registrationToken: string | null;
  /** Key that the team `default` gets at start. */
  bootstrapApiKey: string | null;
  /** How often rows, runs and hosts are compared. */
  reconcileSeconds: number;
  /** How long a host keeps what nobody owns. */
  orphanGraceSeconds: number;
  logLevel: LogLevel;
  workflowBundle: string;
}

/** Injection token of the `Config`. */
export const CONFIG = Symbol('Config');

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Exit code of sysexits.h for a wrong environment: who supervises these processes must not start them again. */
export const EX_CONFIG = 78;

export class ConfigError extends Error {
  constructor(problems: readonly string[]) {
    super(`the environment is not usable:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
  }
}

/** The only place of these processes that reads the environment. Names every bad variable at once. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const problems: string[] = [];
  const read = <T>(
    name: string,
    fallback: string | null,
    parse: (value: string) => T | undefined,
    expected: string,
  ): T => {
    const value = env[name] === undefined || env[name] === '' ? fallback : env[name];
    const parsed = value === null ? undefined : parse(value);
    // Secrets are among the values, so the message does not repeat them.
    if (parsed === undefined) problems.push(`${name} ${value === null ? 'is not set' : 'is wrong'}: ${expected}`);
    return parsed as T;
  };
  const optional = <T>(name: string, parse: (value: string) => T | undefined, expected: string): T | null =>
    env[name] === undefined || env[name] === '' ? null : read(name, null, parse, expected);

  const config: Config = {
    databaseUrl: read(
      'DATABASE_URL',
      null,
      urlOf('postgres:', 'postgresql:'),
      'postgres://user:password@host:port/database',
    ),
    temporalAddress: read('TEMPORAL_ADDRESS', '127.0.0.1:7233', matching(/^[^\s:/]+:\d{1,5}$/), 'host:port'),
    temporalNamespace: read('TEMPORAL_NAMESPACE', 'default', matching(/^[A-Za-z0-9._-]+$/), 'the name of a namespace'),
    temporalUiUrl: optional('TORPOR_TEMPORAL_UI_URL', urlOf('http:', 'https:'), 'http(s)://host:port'),
    listen: read(
      'TORPOR_API_LISTEN',
      '127.0.0.1:8080',
      listenAddress,
      'address:port, e.g. 127.0.0.1:8080 or [::]:8080',
    ),
    registrationToken: optional(
      'TORPOR_REGISTRATION_TOKEN',
      matching(/^\S{16,}$/),
      'at least 16 characters, no spaces',
    ),
    bootstrapApiKey: optional(
      'TORPOR_BOOTSTRAP_API_KEY',
      matching(/^tpr_[0-9a-f]{40}$/),
      'tpr_ and 40 hexadecimal digits',
    ),
    reconcileSeconds: read('TORPOR_RECONCILE_SECONDS', '60', wholeNumber(1, 86_400), '1 to 86400'),
    orphanGraceSeconds: read(
      'TORPOR_ORPHAN_GRACE_SECONDS',
      String(ORPHAN_GRACE_SECONDS),
      wholeNumber(0, 31_536_000),
      '0 to 31536000',
    ),
    logLevel: read('LOG_LEVEL', 'info', oneOf(LOG_LEVELS), LOG_LEVELS.join(', ')),
    workflowBundle: resolve(
      read('TORPOR_WORKFLOW_BUNDLE', 'dist/workflow-bundle.js', matching(/./), 'the path of a file'),
    ),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

function matching(pattern: RegExp): (value: string) => string | undefined {
  return (value) => (pattern.test(value) ? value : undefined);
}

function wholeNumber(min: number, max: number): (value: string) => number | undefined {
  return (value) => {
    const number = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
    return number >= min && number <= max ? number : undefined;
  };
}

function oneOf<T extends string>(values: readonly T[]): (value: string) => T | undefined {
  return (value) => values.find((known) => known === value);
}

function urlOf(...protocols: string[]): (value: string) => string | undefined {
  return (value) => {
    const url = URL.canParse(value) ? new URL(value) : undefined;
    return url && protocols.includes(url.protocol) ? value.replace(/\/+$/, '') : undefined;
  };
}

function listenAddress(value: string): Config['listen'] | undefined {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(value);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host !== undefined && port <= 65_535 ? { host, port } : undefined;
}
