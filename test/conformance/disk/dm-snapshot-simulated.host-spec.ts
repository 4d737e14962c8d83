import { mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import {
  DmSnapshotDisk,
  type DmSnapshotOptions,
} from '../../../host-worker/drivers/dm-snapshot/dm-snapshot-disk.driver.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { describeDiskConformance } from './disk.conformance.js';
import { describeDiskCrashes } from './disk-crashes.conformance.js';
import type { MachineDiskHarness } from './disk-harness.js';
import { describeDiskHardship } from './disk-hardship.conformance.js';
import { filesBelow, makeRawBase, MIB, putPlaces, valueAt } from './disk-places.js';
import { SimulatedDeviceMapper, show } from '../../support/simulated-device-mapper.js';

const TAG = 'simulated';
/** The second place that is looked at ends here. */
const BASE_BYTES = 6 * MIB;

/** The driver itself, over a simulated kernel: all of its logic, on machines without device-mapper too. */
async function makeHarness(): Promise<MachineDiskHarness> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'dm-simulated-')));
  const [data, machine] = [join(dir, 'data'), join(dir, 'machine')];
  for (const folder of [data, machine]) await mkdir(folder);
  const kernel = new SimulatedDeviceMapper(machine);
  const { nodeDir, sysBlock } = kernel;
  const open = (options: Partial<DmSnapshotOptions> = {}): Promise<DmSnapshotDisk> =>
    DmSnapshotDisk.open({ exec: kernel, dataDir: data, hostTag: TAG, busyMs: 200, nodeDir, sysBlock, ...options });
  let paths = 0;

  /** Of a disk that is not attached: what its CoW file and its base are together. */
  const examined = async (id: string): Promise<number> => {
    const folder = join(data, 'sandboxes', id);
    const { base } = JSON.parse(await readFile(join(folder, 'disk.json'), 'utf8')) as { base: { path: string } };
    const copy = join(machine, `examined-${id}`);
    await show(new ChildProcessExec(), base.path, join(folder, 'disk.cow'), copy);
    const value = await valueAt(copy);
    await rm(copy);
    return value ?? -1;
  };
  return {
    ...{
      disk: await open(),
      exec: kernel,
      base: await makeRawBase(join(data, 'base.raw'), BASE_BYTES),
      put: putPlaces,
    },
    get: async ({ path }) => (await valueAt(path)) ?? examined(basename(path).slice(`torpor-${TAG}-`.length)),
    hold: async ({ path }) => {
      kernel.held.add(basename(path));
      return async () => {
        kernel.held.delete(basename(path));
      };
    },
    newPath: () => join(data, `published${(paths += 1)}`),
    removePublished: async (path) => {
      for (const file of [path, `${path}.partial`]) await rm(file, { force: true });
    },
    restarted: (exec = kernel) => open({ exec }),
    inDirectory: (dataDir) => open({ dataDir, hostTag: 'other' }),
    things: async () =>
      [
        ...(await filesBelow(data)),
        ...[...kernel.loops.values()].map(({ file }) => `loop device on ${file}`),
        ...[...kernel.snapshots.keys()].map((name) => `mapped device ${name}`),
        ...(await readdir(nodeDir).catch(() => [])).map((name) => `node ${name}`),
      ].toSorted(),
    dispose: () => rm(dir, { recursive: true }),
  };
}

describeDiskConformance('dm-snapshot on a simulated kernel', makeHarness);
describeDiskHardship('dm-snapshot on a simulated kernel', makeHarness);
describeDiskCrashes('dm-snapshot on a simulated kernel', makeHarness);
