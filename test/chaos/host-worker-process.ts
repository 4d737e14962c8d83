import { parseArgs } from 'node:util';
import { readConfig } from '../../host-worker/config.js';
import { exitStatusOf, lastWords } from '../../host-worker/exit-status.js';
import { HostWorker } from '../../host-worker/host-worker.js';
import { createLogger } from '../../host-worker/log.js';
import { openDrivers } from '../../host-worker/machine-drivers.js';
import { openSimulatedDrivers, type SimulatedDriverOptions } from '../simulator/simulated-drivers.js';
import { HoldPoints } from './hold-points.js';

/** The product's host worker, with the director asked around its steps, and with simulated VMs if that is said. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { director: { type: 'string' }, simulated: { type: 'string' } } });
  const config = readConfig();
  const holdPoints = await HoldPoints.open('host-worker', values.director ?? '');
  const simulated =
    values.simulated === undefined ? undefined : (JSON.parse(values.simulated) as SimulatedDriverOptions);
  await new HostWorker(config, createLogger(config.logLevel), {
    openDrivers: simulated === undefined ? openDrivers : (own, log) => openSimulatedDrivers(own, log, simulated),
    around: (activities) => holdPoints.around(activities),
  }).run();
}

main().then(
  () => process.exit(),
  (err: unknown) => {
    process.stderr.write(`host worker: ${lastWords(err)}\n`);
    process.exit(exitStatusOf(err));
  },
);
