import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import type { Api } from './e2e-api.js';
import { setTimeout as delay } from 'node:timers/promises';

const LOOK_AGAIN_MS = 50;

/**
 * For what nobody tells: looks again until `look` returns a value. What it threw or saw last is in the
 * error when the deadline passes; the deadline is far above what a slow machine needs.
 */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined>,
  deadlineMs = 60_000,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const failure = await look().then(
      (found) => (found == null ? undefined : { found }),
      (cause: unknown) => ({ cause }),
    );
    if (failure && 'found' in failure) return failure.found;
    if (performance.now() > deadline) {
      throw new Error(`${what}: not within ${deadlineMs / 1000} s`, failure ? { cause: failure.cause } : {});
    }
    await delay(LOOK_AGAIN_MS);
  }
}

/** The sandbox, once it is in this state and no operation on it is open. */
export function settledIn(api: Api, id: string, state: SandboxDto['state']): Promise<SandboxDto> {
  return eventually(
    `${id} is ${state}`,
    async () => {
      const sandbox = await api.sandbox(id);
      if (sandbox.state !== state || sandbox.operation) throw new Error(JSON.stringify(sandbox));
      return sandbox;
    },
    120_000,
  );
}
