import type { Exec } from '../../exec.js';
import { lackOr } from './kernel-support.js';

/** Runs one of `ip`, `nft` and `tc`; fails with what the kernel lacks where that is the reason. Returns what it printed. */
export type RunTool = (argv: readonly string[], input?: string, signal?: AbortSignal) => Promise<string>;

export function toolRunner(exec: Exec): RunTool {
  return async (argv, input = '', signal) => {
    try {
      return (await exec.run(argv, { input, signal })).stdout;
    } catch (err) {
      throw lackOr(err);
    }
  };
}

/** Waits for all even if one fails: an undo must not race what is still being made. */
export async function allOf(work: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}
