import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CodeBlock, parseRunbook, type RunbookPage } from '../runbook/runbook-pages.js';
import { ROOT } from '../support/root.js';
import type { Lab } from './lab.js';

/** Pages whose commands need the internet or a person, and say so themselves. */
const NOT_RUN = ['Packages', 'The release'];
/** An emulated machine starts Node in seconds where others take milliseconds. */
const BLOCK_MS = 540_000;
/** Of the console, when the machine itself went away. */
const SHOWN_CHARACTERS = 4_000;
/** Any status but 0 fails a block, in the middle as well. */
const STRICT = 'set -o errexit -o nounset -o pipefail\n';

/** docs/INSTALL.md, run block by block as it is printed. */
export class InstallGuide {
  readonly #pages: RunbookPage[];
  readonly #ran = new Set<number>();

  constructor(
    private readonly lab: Lab,
    /** What the page takes from the environment. */
    private readonly variables: Record<string, string>,
  ) {
    this.#pages = parseRunbook(readFileSync(join(ROOT, 'docs/INSTALL.md'), 'utf8'));
  }

  set(name: string, value: string): void {
    this.variables[name] = value;
  }

  /** The code block `nth` of a page, from 0. */
  async run(title: string, nth = 0): Promise<string> {
    const block = this.#page(title).blocks[nth];
    if (block === undefined) throw new Error(`docs/INSTALL.md has no code block ${nth} on its page "${title}"`);
    this.#ran.add(block.line);
    return this.shell(block.code, `${title}, line ${block.line}`);
  }

  /** In the same shell as the guide's commands; `what` is told when it fails. */
  async shell(script: string, what = script): Promise<string> {
    const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/torpor/bin', ...this.variables };
    const argv = ['bash', '-c', `${STRICT}${script}`];
    const { exitCode, stdout, stderr } = await this.lab
      .run(argv, { env, timeoutMs: BLOCK_MS })
      .catch(async (cause: unknown) => {
        const console = (await this.lab.console()).slice(-SHOWN_CHARACTERS);
        throw new Error(`${what} was cut off; the end of the machine's console:\n${console}`, { cause });
      });
    if (exitCode === 0) return stdout;
    const log = await this.lab.run('journalctl --unit "torpor-*" --no-pager --lines 60 --output cat');
    throw new Error(`${what} ended with ${exitCode}\n${stdout}\n${stderr}\n${log.stdout}`);
  }

  get notRun(): string[] {
    return this.#pages
      .filter(({ title }) => !NOT_RUN.includes(title))
      .flatMap(({ blocks }) => blocks)
      .filter(({ line }: CodeBlock) => !this.#ran.has(line))
      .map(({ code }) => code);
  }

  #page(title: string): RunbookPage {
    const page = this.#pages.find((one) => one.title === title);
    if (page === undefined) throw new Error(`docs/INSTALL.md has no page "${title}"`);
    return page;
  }
}
