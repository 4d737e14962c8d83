import { randomBytes } from 'node:crypto';
import { access, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError, type Exec } from '../../exec.js';
import { UndoStack } from '../../undo-stack.js';
import { SECTOR_BYTES } from './cow-size.js';
import { OWN_NODES, snapshotTable } from './dmsetup.js';

const PROBE_BYTES = 2 ** 20;
const MODULES =
  'modprobe -a dm_snapshot loop; name both in /etc/modules-load.d/torpor.conf to have them after a restart';

export type DmSnapshotFinding = { usable: true; reason: string } | { usable: false; reason: string; remedy: string };

/** Device nodes that the kernel offers where it has what they stand for; only tests have reason to change them. */
interface Places {
  deviceMapper: string;
  loop: string;
}

/** Tries the real thing with a megabyte: a snapshot over two loop devices, made and removed again. */
export async function probeDmSnapshot(
  exec: Exec,
  { deviceMapper, loop }: Places = { deviceMapper: '/dev/mapper/control', loop: '/dev/loop-control' },
): Promise<DmSnapshotFinding> {
  if (!(await exists(deviceMapper))) {
    return { usable: false, reason: `there is no device-mapper (${deviceMapper})`, remedy: MODULES };
  }
  if (!(await exists(loop))) return { usable: false, reason: `there is no ${loop}`, remedy: MODULES };
  const dir = await mkdtemp(join(tmpdir(), 'torpor-dm-probe-'));
  try {
    await makeAndRemove(exec, dir);
    return { usable: true, reason: 'a snapshot over loop devices was made and removed' };
  } catch (err) {
    const said = err instanceof CommandError ? err.stderr.trim() : '';
    const reason = err instanceof Error ? err.message : String(err);
    const lacksTarget = /unknown target type|Invalid argument/.test(said);
    const remedy = lacksTarget ? MODULES : 'repeat the command shown and see `dmesg`';
    return { usable: false, reason: lacksTarget ? `${reason} (${said})` : reason, remedy };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function makeAndRemove(exec: Exec, dir: string): Promise<void> {
  const undo = new UndoStack();
  const attach = async (name: string, ...flags: string[]): Promise<string> => {
    const file = join(dir, name);
    await writeFile(file, '');
    await truncate(file, PROBE_BYTES);
    const device = (await exec.run(['losetup', ...flags, '--find', '--show', file])).stdout.trim();
    undo.push(device, () => exec.run(['losetup', '--detach', device]));
    return device;
  };
  try {
    const origin = await attach('origin', '--read-only');
    const cow = await attach('changes');
    const name = `torpor-probe-${randomBytes(4).toString('hex')}`;
    const table = snapshotTable({ sectors: PROBE_BYTES / SECTOR_BYTES, origin, cow });
    await exec.run(['dmsetup', 'create', name, ...OWN_NODES, '--table', table]);
    await exec.run(['dmsetup', 'remove', name, '--retry', ...OWN_NODES]);
  } catch (err) {
    throw await undo.unwind(err);
  }
  const left = await undo.unwind(new Error('the loop devices of the probe are left'));
  if (left instanceof AggregateError) throw left;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
