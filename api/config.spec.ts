import { describe, expect, it } from '@jest/globals';
import { ConfigError, readConfig } from './config.js';

describe('configuration', () => {
  it('has defaults for everything but the database', () => {
    expect(readConfig({ DATABASE_URL: 'postgres://a@b/c' })).toMatchObject({
      databaseUrl: 'postgres://a@b/c',
      temporalAddress: '127.0.0.1:7233',
      temporalNamespace: 'default',
      temporalUiUrl: null,
      listen: { host: '127.0.0.1', port: 8080 },
      registrationToken: null,
      bootstrapApiKey: null,
      logLevel: 'info',
      reconcileSeconds: 60,
      orphanGraceSeconds: 300,
    });
  });

  it('reads IPv6 addresses and drops the slash at the end of a URL', () => {
    const env = {
      DATABASE_URL: 'postgres://a@b/c',
      TORPOR_API_LISTEN: '[::]:0',
      TORPOR_TEMPORAL_UI_URL: 'http://ui:8233/',
    };
    expect(readConfig(env)).toMatchObject({ listen: { host: '::', port: 0 }, temporalUiUrl: 'http://ui:8233' });
  });

  it('names every bad variable at once and repeats no value', () => {
    const env = {
      DATABASE_URL: '',
      TEMPORAL_ADDRESS: 'nowhere',
      TORPOR_API_LISTEN: '127.0.0.1:99999',
      TORPOR_BOOTSTRAP_API_KEY: 'tpr_secret',
      TORPOR_RECONCILE_SECONDS: '0',
      TORPOR_ORPHAN_GRACE_SECONDS: '1.5',
      LOG_LEVEL: 'loud',
    };
    const read = (): unknown => readConfig(env);
    expect(read).toThrow(ConfigError);
    for (const name of Object.keys(env)) expect(read).toThrow(name);
    expect(messageOf(read)).not.toContain('tpr_secret');
  });
});

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return String(error);
  }
  return '';
}
