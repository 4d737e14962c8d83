import { registerDecorator } from 'class-validator';

export interface StringMapRules {
  keyPattern?: RegExp;
  maxKeys?: number;
  maxKeyLength?: number;
  maxValueLength?: number;
  /** Of all keys and values together, in UTF-8. */
  maxTotalBytes?: number;
}

/** An object whose values are strings. The message never repeats a value: it may be a secret. */
export function IsStringMap(rules: StringMapRules): PropertyDecorator {
  return (target, property) => {
    registerDecorator({
      name: 'isStringMap',
      target: target.constructor,
      propertyName: String(property),
      validator: {
        validate: (value: unknown) => problemOf(value, rules) === null,
        defaultMessage: (args) => `${String(property)} ${problemOf(args?.value, rules) ?? 'is wrong'}`,
      },
    });
  };
}

function problemOf(value: unknown, rules: StringMapRules): string | null {
  const expected = 'must be an object whose values are strings';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return expected;
  const entries = Object.entries(value);
  const notText = entries.find(([, entry]) => typeof entry !== 'string');
  if (notText) return `${expected}: "${notText[0]}" is not`;
  return sizeProblem(entries as [string, string][], rules);
}

function sizeProblem(entries: readonly [string, string][], rules: StringMapRules): string | null {
  const {
    keyPattern,
    maxKeys = Infinity,
    maxKeyLength = Infinity,
    maxValueLength = Infinity,
    maxTotalBytes = Infinity,
  } = rules;
  if (entries.length > maxKeys) return `must have at most ${maxKeys} keys and has ${entries.length}`;
  for (const [key, value] of entries) {
    if (key === '' || key.length > maxKeyLength)
      return `must have keys of 1 to ${maxKeyLength} characters: "${key.slice(0, 80)}" is not`;
    if (keyPattern && !keyPattern.test(key))
      return `must have keys that match ${keyPattern.source}: "${key.slice(0, 80)}" does not`;
    if (value.length > maxValueLength)
      return `must have values of at most ${maxValueLength} characters: that of "${key}" has ${value.length}`;
    // Neither Postgres nor an environment can hold it.
    if (key.includes('\0') || value.includes('\0'))
      return `must hold no NUL character: "${key.replaceAll('\0', '')}" does`;
  }
  const bytes = entries.reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
  return bytes > maxTotalBytes ? `must be at most ${maxTotalBytes} bytes in all and is ${bytes}` : null;
}
