import type { LoggerService } from '@nestjs/common';
import { pino, type Logger } from 'pino';
import type { LogLevel } from './config.js';

/** Secrets that may come along with a logged request or error. */
const SECRETS = ['authorization', 'x-api-key', 'x-host-token', 'x-registration-token', 'x-access-token', 'cookie'];

export function createLogger(level: LogLevel, process: string): Logger {
  return pino({
    level,
    base: { process },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: SECRETS.flatMap((name) => [`headers["${name}"]`, `req.headers["${name}"]`]),
  });
}

/** What the framework has to say, as lines of the same log. */
export class FrameworkLog implements LoggerService {
  constructor(private readonly logger: Logger) {}

  log(message: unknown, context?: unknown): void {
    this.logger.debug({ context }, String(message));
  }

  warn(message: unknown, context?: unknown): void {
    this.logger.warn({ context }, String(message));
  }

  error(message: unknown, stack?: unknown, context?: unknown): void {
    if (message instanceof Error) this.logger.error({ err: message, context }, message.message);
    else this.logger.error({ stack, context }, String(message));
  }
}
