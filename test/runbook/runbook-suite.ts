import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from '../support/e2e-eventually.js';
import { sharedTier } from '../support/e2e-tier.js';
import { type Part, readRunbook, type RunbookPage } from './runbook-pages.js';
import { RunbookShell, type Output, type Variables } from './runbook-shell.js';

/** A page of the runbook whose situation has been brought about. */
export class PageUnderTest {
  readonly #ran = new Set<number>();

  constructor(
    private readonly page: RunbookPage,
    private readonly shell: () => RunbookShell,
  ) {}

  /** The commands of a code block as they are written; `nth` of the part, from 0. */
  async run(part: Part | undefined, variables: Variables = {}, nth = 0): Promise<Output> {
    const block = this.page.blocks.filter((one) => one.part === part)[nth];
    if (!block) throw new Error(`${this.page.title} has no code block ${nth} under ${part ?? 'its title'}`);
    const output = await this.shell().run(block.code, variables);
    this.#ran.add(block.line);
    return output;
  }

  /** The same until its output has all of these: what Temporal lists appears a moment after it has happened. */
  runUntil(part: Part | undefined, variables: Variables, expected: readonly (string | RegExp)[]): Promise<string> {
    return eventually(`${this.page.title}, ${part ?? 'its title'}, tells of ${expected.join(' and ')}`, async () => {
      const { stdout } = await this.run(part, variables);
      const missing = expected.filter((one) => !(typeof one === 'string' ? stdout.includes(one) : one.test(stdout)));
      if (missing.length > 0) throw new Error(`without ${missing.join(' and ')}:\n${stdout}`);
      return stdout;
    });
  }

  get notRun(): string[] {
    return this.page.blocks.filter(({ line }) => !this.#ran.has(line)).map(({ code }) => code);
  }
}

/** The tests of a page. The last one fails when a command of the page was not run. */
export function describePage(title: string, body: (page: PageUnderTest) => void): void {
  const found = readRunbook().find((page) => page.title === title);
  if (!found) throw new Error(`docs/RUNBOOK.md has no page "${title}"`);
  let shell: RunbookShell | undefined;
  const page = new PageUnderTest(found, () => {
    if (!shell) throw new Error('the page is not open yet');
    return shell;
  });
  describe(title, () => {
    beforeAll(async () => {
      shell = await RunbookShell.open(sharedTier());
    });
    afterAll(() => shell?.close());

    body(page);

    it('has had all of its commands run', () => {
      expect(page.notRun).toEqual([]);
    });
  });
}
