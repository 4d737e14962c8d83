import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { CliError } from '../cli-error.js';
import { runCommand } from './command.js';

export interface SystemUser {
  name: string;
  uid: number;
  gid: number;
}

/** Runs Postgres, which refuses to be root. */
export const DATABASE_USER = 'torpor-db';

export function findUser(name: string, passwd = readFileSync('/etc/passwd', 'utf8')): SystemUser | undefined {
  for (const line of passwd.split('\n')) {
    const [user, , uid, gid] = line.split(':');
    if (user === name) return { name, uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}

/** A user without home, shell or password. */
export async function ensureSystemUser(name: string): Promise<'there' | 'made'> {
  if (findUser(name) !== undefined) return 'there';
  await runCommand([
    'useradd',
    '--system',
    '--user-group',
    '--no-create-home',
    '--home-dir',
    '/nonexistent',
    '--shell',
    '/usr/sbin/nologin',
    name,
  ]);
  return 'made';
}

/** Puts a user into the group kvm where that group has /dev/kvm; elsewhere it would not help. */
export async function ensureKvmMember(name: string): Promise<'there' | 'added' | 'no use'> {
  const deviceGid = statSync('/dev/kvm', { throwIfNoEntry: false })?.gid;
  const membership = kvmMembership(name, readFileSync('/etc/group', 'utf8'), deviceGid);
  if (membership !== 'missing') return membership;
  await runCommand(['usermod', '--append', '--groups', 'kvm', name]);
  return 'added';
}

export function kvmMembership(
  name: string,
  groups: string,
  deviceGid: number | undefined,
): 'there' | 'missing' | 'no use' {
  const [, gid, members = ''] = /^kvm:[^:]*:(\d+):(.*)$/m.exec(groups) ?? [];
  if (gid === undefined || Number(gid) !== deviceGid) return 'no use';
  return members.split(',').includes(name) ? 'there' : 'missing';
}

/**
 * Postgres and the virtual machines run as users of their own, so each folder above their
 * files must let others through. Typical trap: a directory below /root.
 */
export function checkReachableByOthers(directory: string, flag: string): void {
  for (let path = directory; ; path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0) {
      throw new CliError(
        `${path} is closed to other users, but the database and the virtual machines run as users of their own`,
        {
          suggestion: `choose another directory with ${flag}, or open it: chmod o+x ${path}`,
          code: 'closed_directory',
        },
      );
    }
    if (path === dirname(path)) return;
  }
}

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
