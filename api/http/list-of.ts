/** Matches a comma-separated list of these words. */
export function listOf(words: readonly string[]): RegExp {
  const word = `(?:${words.join('|')})`;
  return new RegExp(`^${word}(?:,${word})*$`);
}

/** The words of a list that `listOf` matched. */
export function splitList<T extends string>(text: string | undefined): T[] | undefined {
  return text?.split(',') as T[] | undefined;
}
