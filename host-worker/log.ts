import { pino, type Logger } from 'pino';

/** Secrets that may come along with a logged error. */
const SECRETS = ['token', 'accessToken', 'dataPlaneToken', 'registrationToken'];

export function createLogger(level: string): Logger {
  return pino({
    level,
    base: { process: 'host-worker' },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: SECRETS.flatMap((name) => [name, `*.${name}`]),
  });
}
