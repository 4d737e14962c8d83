import type { Command } from 'commander';
import { EXIT, EXIT_MEANINGS, type ExitCode } from './exit-codes.js';

/** The parts of a man page that commander does not write itself. */
export interface HelpPage {
  /** Paragraphs after the options: what happens, in what order, what is left behind. */
  notes?: readonly string[];
  /** What the command's own words mean. */
  terms?: { title: string; rows: readonly (readonly [term: string, meaning: string])[] };
  environment?: readonly (readonly [name: string, meaning: string])[];
  files?: readonly (readonly [path: string, meaning: string])[];
  exit: readonly ExitCode[];
  /** Lines that replace or add to the table of exit codes. */
  exitNotes?: readonly (readonly [code: string, meaning: string])[];
  examples: readonly (readonly [command: string, meaning: string])[];
}

const API_ENVIRONMENT = [
  ['TORPOR_API_URL', 'address of the API; default: what `torpor up` on this machine wrote down'],
  ['TORPOR_API_KEY', 'API key; default: the one of `torpor up` on this machine'],
  ['TORPOR_HOME', 'where `torpor up` keeps its data; default: /var/lib/torpor as root, else ~/.local/share/torpor'],
] as const;

const API_FILES = [
  ['$TORPOR_HOME/credentials.json', 'address and key of the platform of this machine (mode 0600)'],
] as const;

export const API_EXITS: readonly ExitCode[] = [
  EXIT.ok,
  EXIT.failed,
  EXIT.usage,
  EXIT.unreachable,
  EXIT.notFound,
  EXIT.conflict,
  EXIT.unauthorized,
  EXIT.timeout,
];

/** The page of a command that asks the API. */
export function apiPage(parts: Pick<HelpPage, 'examples'> & Partial<HelpPage>): HelpPage {
  return { environment: API_ENVIRONMENT, files: API_FILES, exit: API_EXITS, ...parts };
}

const WIDTH = 100;

export function addHelpPage(command: Command, page: HelpPage): Command {
  const meanings = EXIT_MEANINGS.filter(([code]) => page.exit.includes(code)).map(
    ([code, meaning]) => [String(code), meaning] as const,
  );
  const sections = [
    ...(page.notes ?? []).map((note) => wrap(note, '')),
    ...(page.terms === undefined ? [] : [table(page.terms.title, page.terms.rows)]),
    table('Environment:', page.environment),
    table('Files:', page.files),
    table('Exit status:', [...meanings, ...(page.exitNotes ?? [])]),
    'Examples:\n' + page.examples.map(([example, meaning]) => `  ${example}\n      ${meaning}`).join('\n'),
  ];
  return command.addHelpText('after', '\n' + sections.filter((section) => section !== '').join('\n\n'));
}

function table(title: string, rows: readonly (readonly [string, string])[] | undefined): string {
  if (rows === undefined || rows.length === 0) return '';
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  const lines = rows.map(
    ([name, meaning]) => `  ${name.padEnd(width)}${wrap(meaning, ' '.repeat(width + 2)).trimStart()}`,
  );
  return [title, ...lines].join('\n');
}

function wrap(text: string, indent: string): string {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(/\s+/)) {
    if (line.length + word.length + 1 > WIDTH && line.trim() !== '') {
      lines.push(line);
      line = indent;
    }
    line += line === indent ? word : ` ${word}`;
  }
  return [...lines, line].join('\n');
}
