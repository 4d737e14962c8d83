/** Rejects when somebody ends this run, so that what it made is taken away all the same. */
export function interruption(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, () => reject(new Error(`ended by ${signal}`)));
  });
}

export function never(): Promise<never> {
  return new Promise(() => undefined);
}
