import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Logger } from 'pino';
import { ApiModule } from './api.module.js';
import { ApiKeyRepository } from './auth/api-key.repository.js';
import { ConfigError, EX_CONFIG, readConfig, type Config } from './config.js';
import { EdgeProxy } from './edge/edge.proxy.js';
import { configureHttp, createAdapter } from './http/http-server.js';
import { serveOpenApi } from './http/openapi-document.js';
import { createLogger, FrameworkLog } from './log.js';
import { SandboxRepository } from './sandbox/sandbox.repository.js';

/** How long requests that are under way may take to end after SIGTERM. */
const DRAIN_LIMIT_MS = 30_000;

async function start(config: Config, logger: Logger): Promise<NestFastifyApplication> {
  let edge: EdgeProxy | null = null;
  const adapter = createAdapter(() => edge);
  const app = await NestFactory.create<NestFastifyApplication>(ApiModule.forConfig(config), adapter, {
    logger: new FrameworkLog(logger),
    abortOnError: false,
    // Ours: see `configureHttp`.
    bodyParser: false,
  });
  configureHttp(app, logger);
  serveOpenApi(app);
  edge = app.get(EdgeProxy);
  if (config.bootstrapApiKey !== null) {
    await app.get(ApiKeyRepository).ensureTeamKey('default', 'Default', config.bootstrapApiKey);
  }
  await app.get(SandboxRepository).removeAbandonedSecrets();
  await app.listen(config.listen.port, config.listen.host);
  return app;
}

function stopOnSignal(app: NestFastifyApplication, logger: Logger): void {
  const stop = async (): Promise<void> => {
    setTimeout(() => process.exit(1), DRAIN_LIMIT_MS).unref();
    await app.close();
    logger.info('stopped');
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop());
}

async function main(): Promise<void> {
  const config = readConfig();
  const logger = createLogger(config.logLevel, 'api');
  const app = await start(config, logger);
  stopOnSignal(app, logger);
  logger.info({ ready: 'api', url: await app.getUrl() }, 'ready');
}

try {
  await main();
} catch (error) {
  process.stderr.write(`api: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof ConfigError ? EX_CONFIG : 1);
}
