import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureLabImages, makeTreeImage } from '../../test/lab/lab-disks.js';
import { labEnvironment } from '../../test/lab/lab-environment.js';
import { Lab } from '../../test/lab/lab.js';
import { ROOT } from '../../test/support/root.js';

/** The same command inside the lab; returns its exit status. */
export async function benchHostInLab(args: readonly string[]): Promise<number> {
  const { cacheDir, cloudHypervisor } = labEnvironment();
  if (cloudHypervisor === undefined) {
    throw new Error(
      'Cloud Hypervisor is not on PATH and TORPOR_CLOUD_HYPERVISOR_BIN does not name it; docs/INSTALL.md tells how to get it',
    );
  }
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  const images = await ensureLabImages(cacheDir, say);
  const directory = await mkdtemp(join(tmpdir(), 'torpor-bench-lab-'));
  try {
    const tree = join(directory, 'tree.ext4');
    await makeTreeImage(ROOT, tree, cloudHypervisor);
    const lab = await Lab.start({ images, tree, directory, init: 'fast' });
    try {
      const argv = ['node', '--import', './test/tools/typescript.mjs', 'bench/main.ts', 'host', ...args];
      const { exitCode } = await lab.run(argv, {
        cwd: '/torpor/tree',
        onOutput: (bytes, stream) => void process[stream].write(bytes),
      });
      return exitCode;
    } finally {
      await lab.stop();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
