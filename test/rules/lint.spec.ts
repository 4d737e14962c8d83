import { beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../support/root.js';

interface Diagnostic {
  code: string;
  severity: string;
  filename: string;
}

/** Each planted file is named for the one rule that it exists to break; every other file shows what is allowed. */
const FIXTURES = join(ROOT, 'test/rules/fixtures/lint');
const ALLOWED = ['config.ts', 'index.ts', 'pause.workflow.ts'];

/**
 * Overrides are matched against paths below the configuration file, so the fixtures are linted in a tree of their own
 * with this repository's configuration and compiler options.
 */
async function lintFixtures(): Promise<Diagnostic[]> {
  const tree = await mkdtemp(join(tmpdir(), 'torpor-lint-rules-'));
  try {
    await cp(FIXTURES, tree, { recursive: true });
    await cp(join(ROOT, '.oxlintrc.json'), join(tree, '.oxlintrc.json'));
    await symlink(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
    const { compilerOptions } = JSON.parse(await readFile(join(ROOT, 'tsconfig.json'), 'utf8')) as {
      compilerOptions: object;
    };
    await writeFile(join(tree, 'package.json'), '{ "type": "module" }');
    await writeFile(join(tree, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['api', 'workflows'] }));
    const argv = [
      join(ROOT, 'node_modules/.bin/oxlint'),
      '--type-aware',
      '--disable-nested-config',
      '--format',
      'json',
      'api',
      'workflows',
    ];
    // Errors found are a non-zero exit, and here the answer.
    const run = promisify(execFile)(process.execPath, argv, { cwd: tree });
    const { stdout } = await run.catch((err: { stdout: string }) => err);
    return (JSON.parse(stdout) as { diagnostics: Diagnostic[] }).diagnostics;
  } finally {
    await rm(tree, { recursive: true });
  }
}

describe('lint rules', () => {
  let found: Diagnostic[];
  let planted: string[];

  beforeAll(async () => {
    const files = [...(await readdir(join(FIXTURES, 'api'))), ...(await readdir(join(FIXTURES, 'workflows')))];
    planted = files.filter((file) => !ALLOWED.includes(file));
    found = await lintFixtures();
  });

  it('catches each planted violation by the rule that its file is named for', () => {
    const caught = planted.filter((file) =>
      found.some(({ code, filename }) => basename(filename) === file && code.includes(`(${file.split('.')[0]})`)),
    );
    expect(planted.length).toBeGreaterThan(8);
    expect(caught).toEqual(planted);
  });

  it('leaves alone every file that keeps the rules', () => {
    expect(found.filter(({ filename }) => ALLOWED.includes(basename(filename)))).toEqual([]);
  });

  it('only warns of a long file', () => {
    expect(found.filter(({ severity }) => severity === 'warning').map(({ filename }) => basename(filename))).toEqual([
      'max-lines.ts',
    ]);
  });
});
