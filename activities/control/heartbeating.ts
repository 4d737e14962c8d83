import { Context } from '@temporalio/activity';

const HEARTBEAT_MS = 2_000;

/** Tells Temporal that this activity lives while `work` is done, and what it is about. */
export async function heartbeating<T>(about: string, work: () => Promise<T>): Promise<T> {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat(about), HEARTBEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beat);
  }
}
