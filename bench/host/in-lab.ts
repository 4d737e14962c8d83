import { labEnvironment } from '../../test/lab/lab-environment.js';
import { LabRig } from '../../test/lab/lab-rig.js';

/** The same command inside the lab; returns its exit status. */
export async function benchHostInLab(args: readonly string[]): Promise<number> {
  if (labEnvironment().cloudHypervisor === undefined) {
    throw new Error(
      'Cloud Hypervisor is not on PATH and TORPOR_CLOUD_HYPERVISOR_BIN does not name it; docs/INSTALL.md tells how to get it',
    );
  }
  const rig = await LabRig.open();
  try {
    const lab = await rig.start('bench');
    const { exitCode } = await lab.run(['node', 'bench/main.js', 'host', ...args], {
      onOutput: (bytes, stream) => void process[stream].write(bytes),
    });
    return exitCode;
  } finally {
    await rig.close();
  }
}
