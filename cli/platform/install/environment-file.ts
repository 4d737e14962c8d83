import { randomBytes } from 'node:crypto';
import { CliError } from '../../cli-error.js';
import { EXIT } from '../../exit-codes.js';

export type Settings = Readonly<Record<string, string>>;

/** `NAME=VALUE` as given on the command line. */
export function parseSetting(text: string): [name: string, value: string] {
  const [, name, value] = /^([A-Z][A-Z0-9_]*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new CliError(`--set ${text}: it must be NAME=VALUE`, { exitCode: EXIT.usage });
  // These mean something to systemd in a file of variables, and no value that we know needs them.
  if (/[\n"'\\]/.test(value))
    throw new CliError(`--set ${name}: the value must have no quotes, backslashes or line breaks`, {
      exitCode: EXIT.usage,
    });
  return [name, value];
}

export function readSettings(file: string): Settings {
  const found = [...file.matchAll(/^([A-Z][A-Z0-9_]*)=(.*)$/gm)];
  return Object.fromEntries(found.map(([, name, value]) => [name ?? '', value ?? '']));
}

/** The file with these values, each in its line; what it does not have yet goes to its end. */
export function withSettings(file: string, settings: Settings): string {
  let text = file;
  for (const [name, value] of Object.entries(settings)) {
    const line = new RegExp(`^${name}=.*$`, 'm');
    // A function, because a value may have a dollar sign.
    if (line.test(text)) text = text.replace(line, () => `${name}=${value}`);
    else text = `${text.trimEnd()}\n${name}=${value}\n`;
  }
  return text;
}

/** What nobody should have to think of: made once, and kept in the file. */
export function inventedSecrets(): Settings {
  return {
    TORPOR_REGISTRATION_TOKEN: randomBytes(24).toString('base64url'),
    TORPOR_BOOTSTRAP_API_KEY: `tpr_${randomBytes(20).toString('hex')}`,
  };
}
