import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ROOT } from '../support/root.js';

interface Service {
  image: string;
  environment?: Record<string, string>;
  entrypoint?: string[];
  command?: string[];
  configs?: { source: string }[];
  stop_grace_period?: string;
}

interface File {
  services: Record<'schema' | 'temporal' | 'namespace', Service>;
  configs: Record<string, { content: string }>;
}

/** A container that runs to its end. */
export interface OneShot {
  argv: readonly [string, ...string[]];
  environment: Record<string, string>;
}

/** What docker-compose.temporal.yml says of the server and its one-shots, with variables replaced as Compose does it. */
export interface ClusterSetup {
  /** Of the server's and the tools' images. */
  version: string;
  environment: Record<string, string>;
  dynamicConfig: string;
  stopMs: number;
  schema: OneShot;
  namespace: OneShot;
}

const FILE = join(ROOT, 'docker-compose.temporal.yml');

export function readClusterSetup(variables: Readonly<Record<string, string>>): ClusterSetup {
  const { services, configs } = parse(readFileSync(FILE, 'utf8'), { merge: true }) as File;
  const { schema, temporal, namespace } = services;
  const dynamicConfig = configs[temporal.configs?.[0]?.source ?? '']?.content;
  if (dynamicConfig === undefined) throw new Error(`${FILE}: the server has no dynamic configuration`);
  return {
    version: versionOf(temporal),
    environment: environmentOf(temporal, variables),
    dynamicConfig: expand(dynamicConfig, variables),
    stopMs: secondsOf(temporal) * 1000,
    schema: oneShot(schema, variables),
    namespace: oneShot(namespace, variables),
  };
}

/** The version that the file names; nothing has to be known of a cluster to tell. */
export function clusterVersion(): string {
  return versionOf((parse(readFileSync(FILE, 'utf8'), { merge: true }) as File).services.temporal);
}

/** `$$` is a dollar; `${NAME:-default}` and `${NAME:?message}` count an empty value as none. */
export function expand(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replaceAll(
    /\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})/g,
    (whole, name?: string, kind?: string, rest?: string) => {
      if (whole === '$$') return '$';
      const value = variables[name ?? ''] ?? '';
      if (value !== '' || kind === undefined) return value;
      if (kind === '-') return rest ?? '';
      throw new Error(`${FILE}: ${name} is not set: ${rest}`);
    },
  );
}

function versionOf({ image }: Service): string {
  const version = /:(\d+\.\d+\.\d+)$/.exec(image)?.[1];
  if (version === undefined) throw new Error(`${FILE}: ${image} does not name an exact version`);
  return version;
}

function secondsOf({ stop_grace_period: period = '10s' }: Service): number {
  const seconds = /^(\d+)s$/.exec(period)?.[1];
  if (seconds === undefined) throw new Error(`${FILE}: stop_grace_period ${period} is not in seconds`);
  return Number(seconds);
}

function environmentOf({ environment = {} }: Service, variables: Readonly<Record<string, string>>) {
  return Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, expand(value, variables)]));
}

function oneShot(service: Service, variables: Readonly<Record<string, string>>): OneShot {
  const [program, ...args] = [...(service.entrypoint ?? []), ...(service.command ?? [])];
  if (program === undefined) throw new Error(`${FILE}: a one-shot of ${service.image} has no command`);
  return {
    argv: [program, ...args.map((argument) => expand(argument, variables))],
    environment: environmentOf(service, variables),
  };
}
