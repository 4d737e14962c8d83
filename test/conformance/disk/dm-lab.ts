import { readFileSync } from 'node:fs';
import { copyFile, mkdtemp, open, readFile, readdir, realpath, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { DiskAttachment } from '../../../activities/host/ports.js';
import {
  DmSnapshotDisk,
  type DmSnapshotOptions,
} from '../../../host-worker/drivers/dm-snapshot/dm-snapshot-disk.driver.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { hostTag } from '../../../host-worker/host-tag.js';
import type { MachineDiskHarness } from './disk-harness.js';
import { filesBelow, makeRawBase, MIB, putPlaces, valueAt } from './disk-places.js';

export const exec = new ChildProcessExec();

/** The module registers it; the node in /dev alone says nothing. */
export const HAS_DEVICE_MAPPER = readFileSync('/proc/misc', 'utf8').includes('device-mapper');
export const DEVICE_MAPPER = 'device-mapper: modprobe dm_snapshot, or run it in the lab: npm run test:lab';

const BASE_BYTES = 64 * MIB;
/** What the driver calls its devices and files: the suites look for them by themselves. */
const NODE_DIR = '/dev/mapper';

export interface DmHarness extends MachineDiskHarness {
  disk: DmSnapshotDisk;
  dir: string;
  tag: string;
  open(options?: Partial<DmSnapshotOptions>): Promise<DmSnapshotDisk>;
}

export async function makeDmHarness(parent: string): Promise<DmHarness> {
  const dir = await realpath(await mkdtemp(join(parent, 'dm-snapshot-')));
  const base = await makeRawBase(join(dir, 'base.raw'), BASE_BYTES);
  const openDisk = (options: Partial<DmSnapshotOptions> = {}): Promise<DmSnapshotDisk> =>
    DmSnapshotDisk.open({ exec, dataDir: dir, busyMs: 1_000, ...options });
  let paths = 0;
  return {
    ...{ disk: await openDisk(), exec, base, put: putPlaces, hold, dir, tag: await hostTag(dir), open: openDisk },
    get: async ({ path }) => (await valueAt(path)) ?? valueInCow(dir, idOf(path)),
    newPath: () => join(dir, `published${(paths += 1)}`),
    removePublished: async (path) => {
      for (const file of [path, `${path}.partial`]) await rm(file, { force: true });
    },
    restarted: (through = exec) => openDisk({ exec: through }),
    inDirectory: (dataDir) => openDisk({ dataDir }),
    things: async () => [...(await filesBelow(dir)), ...(await devicesOver(dir))].toSorted(),
    dispose: async () => {
      const last = await openDisk();
      for (const id of await last.list()) await last.remove(id);
      await rm(dir, { recursive: true });
    },
  };
}

async function hold({ path }: DiskAttachment): Promise<() => Promise<void>> {
  const file = await open(path, 'r+');
  return () => file.close();
}

function idOf(node: string): string {
  return /^torpor-[0-9a-f]{8}-(.+)$/.exec(basename(node))?.[1] ?? '';
}

/** What a disk that is not attached holds, in a copy of its CoW file and without the driver's help. */
async function valueInCow(dir: string, id: string): Promise<number> {
  const folder = join(dir, 'sandboxes', id);
  const record = await readFile(join(folder, 'disk.json'), 'utf8');
  const { base } = JSON.parse(record) as { base: { path: string; bytes: number } };
  const copy = join(dir, `examined-${id}.cow`);
  await copyFile(join(folder, 'disk.cow'), copy);
  const attach = async (...args: string[]) => (await exec.run(['losetup', '--find', '--show', ...args])).stdout.trim();
  const [origin, cow] = [await attach('--read-only', base.path), await attach(copy)];
  const name = `examined-${id}`;
  try {
    const table = `0 ${base.bytes / 512} snapshot ${origin} ${cow} P 8`;
    await exec.run(['dmsetup', 'create', name, '--verifyudev', '--noudevsync', '--noudevrules', '--table', table]);
    return (await valueAt(join(NODE_DIR, name))) ?? -1;
  } finally {
    const remove = ['dmsetup', 'remove', '--retry', '--verifyudev', '--noudevsync', '--noudevrules', name];
    await exec.run(remove).catch(() => undefined);
    await exec.run(['losetup', '--detach', origin, cow]);
    await rm(copy);
  }
}

/** Loop devices on files in `dir`, by their files, and the mapped devices and nodes of the data directory. */
async function devicesOver(dir: string): Promise<string[]> {
  const prefix = `torpor-${await hostTag(dir)}-`;
  const { stdout: mapped } = await exec.run(['dmsetup', 'ls']);
  const { stdout: loops } = await exec.run(['losetup', '--list', '--noheadings', '--output', 'BACK-FILE']);
  return [
    ...loops
      .split('\n')
      .filter((file) => file.startsWith(`${dir}/`))
      .map((file) => `loop device on ${file.trim()}`),
    ...mapped
      .split('\n')
      .filter((line) => line.startsWith(prefix))
      .map((line) => `mapped device ${line.split(/\s/)[0]}`),
    ...(await readdir(NODE_DIR)).filter((name) => name.startsWith(prefix)).map((name) => `node ${name}`),
  ];
}
