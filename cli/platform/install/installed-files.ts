import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../project-root.js';
import { inventedSecrets, readSettings, type Settings, withSettings } from './environment-file.js';
import { readOrNothing, systemFile, systemLink, type SystemFile } from './system-file.js';

export const ROLES = ['host', 'control', 'all'] as const;
export type Role = (typeof ROLES)[number];

export interface Destination {
  role: Role;
  /** Where `current`, `bin` and usually the releases are; the units name it. */
  prefix: string;
  /** Below which everything is written; `/` but for building images of machines. */
  root: string;
  /** For the files of variables. */
  settings: Settings;
}

/** The prefix that the files of cli/systemd are written with. */
const WRITTEN_PREFIX = '/opt/torpor';
const UNITS = {
  host: ['torpor-vms.slice', 'torpor-vms.service', 'torpor-host-worker.service'],
  control: ['torpor-api.service', 'torpor-control-worker.service'],
} as const;

export const isHost = (role: Role): boolean => role !== 'control';
export const isControl = (role: Role): boolean => role !== 'host';

export function unitsOf(role: Role): string[] {
  return [...(isControl(role) ? UNITS.control : []), ...(isHost(role) ? UNITS.host : [])];
}

/** Services that the machine starts by itself; a slice is started by what is in it. */
export function enabledUnits(role: Role): string[] {
  return unitsOf(role).filter((unit) => unit.endsWith('.service'));
}

/** Everything but the link `current`, which makes this tree the one that runs. */
export function installedFiles(destination: Destination): SystemFile[] {
  const { role, prefix, root } = destination;
  const plain = (path: string, source: string) => systemFile(join(root, path), template(source, prefix), 0o644);
  return [
    ...unitsOf(role).map((unit) => plain(`/etc/systemd/system/${unit}`, unit)),
    ...(isHost(role)
      ? [
          plain('/etc/modules-load.d/torpor.conf', 'modules-load.conf'),
          plain('/etc/sysctl.d/60-torpor.conf', 'sysctl.conf'),
          plain('/etc/udev/rules.d/60-torpor.rules', 'udev.rules'),
          plain('/etc/tmpfiles.d/torpor.conf', 'tmpfiles.conf'),
        ]
      : []),
    ...environmentFiles(destination),
    systemLink(join(root, prefix, 'bin/node'), process.execPath),
    systemFile(join(root, '/usr/local/bin/torpor'), command(prefix), 0o755),
  ];
}

/** Written last and at once: until then the machine runs what it ran before. */
export function currentLink({ prefix, root }: Destination): SystemFile {
  return systemLink(join(root, prefix, 'current'), PROJECT_ROOT);
}

/** A file that is there keeps its values, but for those that were asked for. */
function environmentFiles({ role, root, settings }: Destination): SystemFile[] {
  const path = (name: string) => join(root, '/etc/torpor', name);
  const there = readOrNothing(path('control-plane.env'));
  const secrets = there === undefined ? inventedSecrets() : readSettings(there);
  const token = secrets['TORPOR_REGISTRATION_TOKEN'] ?? '';
  const made = (name: string, initial: Settings): SystemFile => {
    const before = readOrNothing(path(name)) ?? withSettings(template(name, WRITTEN_PREFIX), initial);
    return systemFile(path(name), withSettings(before, belonging(settings, before)), 0o600);
  };
  return [
    ...(isControl(role) ? [made('control-plane.env', there === undefined ? secrets : {})] : []),
    ...(isHost(role) ? [made('host.env', role === 'all' ? { TORPOR_REGISTRATION_TOKEN: token } : {})] : []),
  ];
}

/** What a file has a line for, and what none of the two has: that may be of either. */
function belonging(settings: Settings, file: string): Settings {
  const own = readSettings(file);
  const known = new Set(['control-plane.env', 'host.env'].flatMap((name) => Object.keys(readSettings(template(name)))));
  return Object.fromEntries(Object.entries(settings).filter(([name]) => name in own || !known.has(name)));
}

function template(name: string, prefix = WRITTEN_PREFIX): string {
  return readFileSync(join(PROJECT_ROOT, 'cli/systemd', name), 'utf8').replaceAll(WRITTEN_PREFIX, prefix);
}

function command(prefix: string): string {
  return `#!/bin/sh\nexec ${prefix}/bin/node --enable-source-maps ${prefix}/current/dist/cli/main.js "$@"\n`;
}
