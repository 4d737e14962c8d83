import { beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../support/root.js';

interface Violation {
  from: string;
  to: string;
  rule: { name: string };
}

interface CruiseResult {
  summary: { violations: Violation[]; totalCruised: number; ruleSetUsed: { forbidden: { name: string }[] } };
}

/** Each planted file is named for the one rule that it exists to break; every other file shows what is allowed. */
const FIXTURES = join(ROOT, 'test/rules/fixtures/imports');

/** The run exits with the number of violations, which here is not a failure; its JSON is the answer. */
async function cruise(cwd: string): Promise<CruiseResult> {
  const argv = [join(ROOT, 'node_modules/.bin/depcruise'), '--config', join(ROOT, '.dependency-cruiser.mjs')];
  const run = promisify(execFile)(process.execPath, [...argv, '--output-type', 'json', '.'], {
    cwd,
    maxBuffer: 2 ** 26,
  });
  const { stdout } = await run.catch((err: { stdout: string }) => err);
  return JSON.parse(stdout) as CruiseResult;
}

describe('import rules', () => {
  let result: CruiseResult;
  let rules: string[];

  beforeAll(async () => {
    result = await cruise(FIXTURES);
    rules = result.summary.ruleSetUsed.forbidden.map((rule) => rule.name);
  });

  it('has rules, and fixtures to try them on', () => {
    expect(rules.length).toBeGreaterThan(10);
    expect(result.summary.totalCruised).toBeGreaterThan(rules.length);
  });

  it('catches the violation planted for each rule', () => {
    const caught = rules.filter((rule) =>
      result.summary.violations.some(
        (violation) => violation.rule.name === rule && basename(violation.from).startsWith(rule),
      ),
    );
    expect(caught).toEqual(rules);
  });

  it('leaves alone every file that keeps the rules', () => {
    const innocent = result.summary.violations.filter(
      (violation) => !rules.some((rule) => basename(violation.from).startsWith(rule)),
    );
    expect(innocent).toEqual([]);
  });
});
