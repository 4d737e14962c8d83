import { describe } from '@jest/globals';

/**
 * A group of tests that needs something this machine may lack. Where it is lacking they are skipped, loudly: the run
 * prints them with their reason and counts each. Any other way of skipping fails the run.
 */
export function describeWhen(met: boolean, need: string, name: string, body: () => void): void {
  if (met) describe(name, body);
  else describe.skip(`${name} [skipped: needs ${need}]`, body);
}
