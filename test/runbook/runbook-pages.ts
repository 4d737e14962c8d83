import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../support/root.js';

export const PARTS = ['Find it', 'What it means', 'Do', 'Do not'] as const;
export type Part = (typeof PARTS)[number];

export interface CodeBlock {
  /** The part of the page that it stands in; undefined before the first. */
  part: Part | undefined;
  code: string;
  /** Line of the file where its code begins. */
  line: number;
}

export interface RunbookPage {
  title: string;
  /** In their order on the page. */
  parts: Part[];
  blocks: CodeBlock[];
}

/** What stands before the first page. */
export const OPENING = 'Runbook';

export function readRunbook(): RunbookPage[] {
  return parseRunbook(readFileSync(join(ROOT, 'docs/RUNBOOK.md'), 'utf8'));
}

/** A page is a second-level section; its parts begin with their name in bold. */
export function parseRunbook(text: string): RunbookPage[] {
  const pages: RunbookPage[] = [];
  let block: CodeBlock | undefined;
  let part: Part | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    const page = pages.at(-1);
    if (block) {
      if (line === '```') block = undefined;
      else block.code += `${line}\n`;
    } else if (line.startsWith('# ') || line.startsWith('## ')) {
      part = undefined;
      pages.push({ title: line.replace(/^#+ /, ''), parts: [], blocks: [] });
    } else if (line.startsWith('```') && page) {
      if (line !== '```sh') throw new Error(`line ${index + 1}: a code block of the runbook is shell, not ${line}`);
      block = { part, code: '', line: index + 2 };
      page.blocks.push(block);
    } else {
      const begun = PARTS.find((name) => line.startsWith(`**${name}**`) || line.startsWith(`**${name}.**`));
      if (begun !== undefined && page) {
        part = begun;
        page.parts.push(begun);
      }
    }
  }
  if (block) throw new Error(`line ${block.line}: a code block without an end`);
  return pages;
}
