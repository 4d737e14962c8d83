import type { Command } from 'commander';
import { describe, expect, it } from '@jest/globals';
import { readConfig } from './config.js';
import { createProgram } from './program.js';

/** Commands that do something, as opposed to groups of them. */
function leaves(command: Command, path: string[] = []): [string, Command][] {
  if (command.commands.length === 0) return [[path.join(' '), command]];
  return command.commands.flatMap((child) => leaves(child, [...path, child.name()]));
}

function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  return text;
}

const commands = leaves(createProgram(readConfig()));

describe('the help of each command', () => {
  it('covers all commands', () => {
    expect(commands.map(([name]) => name)).toEqual([
      'setup',
      'doctor',
      'up',
      'install',
      'demo',
      'sandbox create',
      'sandbox ls',
      'sandbox get',
      'sandbox logs',
      'sandbox exec',
      'sandbox shell',
      'sandbox extend',
      'sandbox pause',
      'sandbox resume',
      'sandbox rm',
      'sandbox network',
      'sandbox recover',
      'op ls',
      'op get',
      'op retry',
      'ops reconcile',
      'ops findings',
      'template ls',
      'template build',
      'template cancel',
      'host ls',
    ]);
  });

  it.each(commands)('%s has description, environment, exit codes and examples', (_, command) => {
    const text = helpOf(command);
    expect(command.description()).not.toBe('');
    for (const section of ['Usage:', 'Options:', 'Environment:', 'Exit status:', 'Examples:'])
      expect(text).toContain(section);
  });

  // A terminal has no machine-readable form.
  it.each(commands.filter(([name]) => name !== 'sandbox shell'))('%s speaks JSON', (_, command) => {
    expect(command.options.map(({ long }) => long)).toContain('--json');
  });
});
