import { describe, expect, it } from '@jest/globals';
import { clusterVersion, expand, readClusterSetup } from './compose-file.js';

describe('the setup of a cluster', () => {
  it('replaces variables as Compose does', () => {
    const variables = { SET: 'x', EMPTY: '' };
    expect(expand('${SET} ${SET:-y} ${SET:?why}', variables)).toBe('x x x');
    expect(expand('${EMPTY:-y} ${NONE:-} ${NONE}.', variables)).toBe('y  .');
    expect(expand('$$NONE $${SET} $$$$', variables)).toBe('$NONE ${SET} $$');
    expect(() => expand('${EMPTY:?choose one}', variables)).toThrow('EMPTY is not set: choose one');
  });

  it('comes out of the file with a password and is refused without', () => {
    const setup = readClusterSetup({ TEMPORAL_POSTGRES_PASSWORD: 'secret' });
    expect(setup.version).toBe(clusterVersion());
    expect(setup.environment).toMatchObject({ POSTGRES_PWD: 'secret', NUM_HISTORY_SHARDS: '512' });
    expect(setup.dynamicConfig).toContain('matching.numTaskqueueReadPartitions');
    expect(setup.stopMs).toBe(60_000);
    expect(setup.schema.environment).toMatchObject({ SQL_PLUGIN: 'postgres12', SQL_PASSWORD: 'secret' });
    expect(setup.schema.argv).toEqual(['/bin/sh', '-euc', expect.stringContaining('--database "$database" create')]);
    expect(setup.namespace.argv.at(-1)).toContain('--namespace "$TEMPORAL_NAMESPACE"');
    expect(() => readClusterSetup({})).toThrow('TEMPORAL_POSTGRES_PASSWORD is not set');
  });
});
