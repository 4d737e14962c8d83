import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { ROOT } from '../support/root.js';
import { OPENING, parseRunbook, PARTS, readRunbook } from './runbook-pages.js';

const pages = readRunbook();

/** As the specs of this folder name them. Each of these runs all commands of its page, or fails. */
function testedPages(): string[] {
  const folder = join(ROOT, 'test/runbook');
  const specs = readdirSync(folder).filter((name) => name.endsWith('.runbook-spec.ts'));
  return specs.flatMap((name) =>
    [...readFileSync(join(folder, name), 'utf8').matchAll(/describePage\(\s*'([^']+)'/g)].map(
      ([, title]) => title ?? '',
    ),
  );
}

describe('the runbook', () => {
  it('has a test for every page, and no test for a page that it does not have', () => {
    expect(testedPages().sort()).toEqual(pages.map(({ title }) => title).sort());
  });

  it.each(pages.filter(({ title }) => title !== OPENING))('$title has all parts in their order', ({ parts }) => {
    expect(parts).toEqual(PARTS);
  });

  it.each(pages.filter(({ title }) => title !== OPENING))('$title says by commands how it is found', ({ blocks }) => {
    expect(blocks.filter(({ part }) => part === 'Find it')).not.toEqual([]);
  });

  it.each(pages)('$title names only variables that it explains', ({ blocks }) => {
    const known = new Set(['SANDBOX', 'OP', 'HOST', 'TEAM', 'URL', 'KEY', 'STEP', 'PID', 'AGO', 'RUN']);
    for (const name of ['TORPOR_HOME', 'TEMPORAL_ADDRESS']) known.add(name);
    const used = blocks.flatMap(({ code }) => [...code.matchAll(/\$\{?([A-Z_]+)/g)].map(([, name]) => name ?? ''));
    expect(used.filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('parseRunbook', () => {
  it('finds pages, parts and code', () => {
    const text =
      '# Runbook\nwords\n## One\n**Find it**\n\n```sh\na\nb\n```\n**What it means.** x\n**Do.**\n```sh\nc\n```\n';
    expect(parseRunbook(text)).toEqual([
      { title: 'Runbook', parts: [], blocks: [] },
      {
        title: 'One',
        parts: ['Find it', 'What it means', 'Do'],
        blocks: [
          { part: 'Find it', code: 'a\nb\n', line: 7 },
          { part: 'Do', code: 'c\n', line: 13 },
        ],
      },
    ]);
  });

  it.each(['# R\n```js\nx\n```\n', '# R\n```sh\nx\n'])('refuses what it cannot run: %j', (text) => {
    expect(() => parseRunbook(text)).toThrow(/code block/);
  });
});
