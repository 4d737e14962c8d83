import { readConfig } from './config.js';
import { exitStatusOf, lastWords } from './exit-status.js';
import { HostWorker } from './host-worker.js';
import { createLogger } from './log.js';
import { openDrivers } from './machine-drivers.js';

async function main(): Promise<void> {
  const config = readConfig();
  await new HostWorker(config, createLogger(config.logLevel), { openDrivers }).run();
}

main().then(
  // Kept connections to the API would hold the process for some seconds more.
  () => process.exit(),
  (err: unknown) => {
    process.stderr.write(`host worker: ${lastWords(err)}\n`);
    process.exit(exitStatusOf(err));
  },
);
