import 'reflect-metadata';
import { pino } from 'pino';
import { ConfigError, EX_CONFIG, readConfig } from './config.js';
import { runControlWorker } from './control-worker.js';

async function main(): Promise<void> {
  const config = readConfig();
  await runControlWorker(config, pino({ level: config.logLevel, base: { process: 'control-worker' } }));
}

main().catch((err: unknown) => {
  // What is wrong with the environment is said in words; anything else is a bug or an outage and shows where it is.
  const wrongConfig = err instanceof ConfigError;
  const why = err instanceof Error ? (wrongConfig ? err.message : (err.stack ?? err.message)) : String(err);
  process.stderr.write(`control worker: ${why}\n`);
  process.exit(wrongConfig ? EX_CONFIG : 1);
});
