import { InvalidArgumentError } from 'commander';

/** Values of options, with messages that say what would be right. */
export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('It must be a whole number above 0.');
  return value;
}

export function nonNegativeInteger(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < 0)
    throw new InvalidArgumentError('It must be a whole number, 0 or more.');
  return value;
}

/** Collects `--env A=1 --env B=2`. */
export function keyValue(text: string, previous: Record<string, string> = {}): Record<string, string> {
  const cut = text.indexOf('=');
  if (cut < 1) throw new InvalidArgumentError('It must look like NAME=VALUE.');
  return { ...previous, [text.slice(0, cut)]: text.slice(cut + 1) };
}

export function list(text: string, previous: string[] = []): string[] {
  return [...previous, text];
}
