import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SECRET = 'mysql://user:hidden@host/db';

/** A process of the platform, run from its sources in an environment of its own. */
function run(entry: string, env: Record<string, string>): Promise<{ code: number | null; stderr: string }> {
  const argv = ['--import', './test/tools/typescript.mjs', entry];
  const child = spawn(process.execPath, argv, { cwd: ROOT, env, stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stderr }));
  });
}

describe('a wrong environment', () => {
  it.each(['api/main.ts', 'api/worker.ts'])('ends %s with 78 and every bad variable', async (entry) => {
    const env = { DATABASE_URL: SECRET, TEMPORAL_ADDRESS: 'nowhere', LOG_LEVEL: 'loud' };
    const { code, stderr } = await run(entry, env);
    for (const name of Object.keys(env)) expect(stderr).toContain(`  ${name} is wrong`);
    expect(stderr).not.toContain('hidden');
    expect(code).toBe(78);
  });

  it.each([
    ['is not set', {}],
    ['is wrong', { DATABASE_URL: SECRET }],
  ])('ends the migrations with 78 when DATABASE_URL %s', async (what, env) => {
    const { code, stderr } = await run('migrations/run.ts', env);
    expect(stderr).toContain(`DATABASE_URL ${what}`);
    expect(stderr).not.toContain('hidden');
    expect(code).toBe(78);
  });

  it('is told from a database that is away', async () => {
    const { code } = await run('migrations/run.ts', { DATABASE_URL: 'postgres://a:b@127.0.0.1:1/none' });
    expect(code).toBe(1);
  });
});
