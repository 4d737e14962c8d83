import { existsSync } from 'node:fs';
import { CliError } from '../../cli-error.js';
import { PROJECT_ROOT } from '../../project-root.js';
import { runCommand } from '../command.js';
import { checkBuilt } from '../own-processes.js';
import { checkReachableByOthers, ensureKvmMember, ensureSystemUser } from '../system-users.js';
import { currentLink, type Destination, enabledUnits, installedFiles, isControl, isHost } from './installed-files.js';
import type { SystemFile } from './system-file.js';

/** Runs the API and the control worker, which need no right of root. */
const CONTROL_USER = 'torpor';

export interface InstallStep {
  title: string;
  /** What it would do, or nothing where there is nothing to do. */
  preview: () => string[];
  /** Returns what to show beside it. */
  run: () => Promise<string>;
}

/** In order. Every step may run again: what is there is left alone. */
export function installSteps(destination: Destination, vmUser: string): InstallStep[] {
  const files = installedFiles(destination);
  const here = destination.root === '/';
  return [
    fileStep('files', files),
    ...(here ? [usersStep(destination, vmUser), systemStep(destination)] : []),
    fileStep('current release', [currentLink(destination)]),
  ];
}

/** Refuses what could only fail half-way. */
export function checkInstallable({ root, prefix }: Destination): void {
  if (!prefix.startsWith('/') || /[\s%]/.test(prefix))
    throw new CliError(`--prefix ${prefix}: it must be an absolute path without spaces or percent signs`, {
      code: 'usage',
    });
  checkBuilt();
  checkReachableByOthers(PROJECT_ROOT, 'the place that the release was unpacked to');
  if (root !== '/') return;
  if (process.getuid?.() !== 0)
    throw new CliError('installing needs root', { suggestion: 'sudo torpor install …', code: 'not_root' });
  if (!existsSync('/run/systemd/system')) {
    throw new CliError('this machine was not started by systemd', {
      suggestion: 'write the files for another machine with --root DIR, or run `torpor up` here',
      code: 'unsupported',
    });
  }
}

function fileStep(title: string, files: readonly SystemFile[]): InstallStep {
  const due = () => files.filter((file) => file.find() !== 'there');
  return {
    title,
    preview: () => due().map((file) => `${file.find() === 'new' ? 'write' : 'change'} ${file.path}`),
    run: async () => {
      const changes = due();
      for (const file of changes) file.write();
      return changes.length === 0 ? 'all there' : `${changes.map(({ path }) => path).join(', ')}`;
    },
  };
}

function usersStep({ role }: Destination, vmUser: string): InstallStep {
  const names = [...(isControl(role) ? [CONTROL_USER] : []), ...(isHost(role) ? [vmUser] : [])];
  return {
    title: 'system users',
    preview: () => names.map((name) => `see that the user ${name} is there`),
    run: async () => {
      const told: string[] = [];
      for (const name of names) told.push(`${name} (${await ensureSystemUser(name)})`);
      if (isHost(role)) await ensureKvmMember(vmUser);
      return told.join(', ');
    },
  };
}

/** What reads the files, told to read them again; and the units, so that they start with the machine. */
function systemStep({ role }: Destination): InstallStep {
  const commands: [string, ...string[]][] = [
    ['systemctl', 'daemon-reload'],
    ...(isHost(role) ? HOST_COMMANDS : []),
    ['systemctl', 'enable', '--quiet', ...enabledUnits(role)],
  ];
  return {
    title: 'system',
    preview: () => commands.map((argv) => argv.join(' ')),
    run: async () => {
      for (const argv of commands) await runCommand(argv, { timeoutMs: 120_000 });
      return `enabled ${enabledUnits(role).join(', ')}`;
    },
  };
}

const HOST_COMMANDS: [string, ...string[]][] = [
  ['systemctl', 'restart', 'systemd-modules-load.service'],
  ['systemctl', 'restart', 'systemd-sysctl.service'],
  ['systemd-tmpfiles', '--create', 'torpor.conf'],
  ['udevadm', 'control', '--reload'],
  ['udevadm', 'trigger', '--settle', '--subsystem-match=misc'],
];
