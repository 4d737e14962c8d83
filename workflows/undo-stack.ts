import { CancellationScope, log } from '@temporalio/workflow';
import { describeFailure } from './failure.js';

/**
 * What a run has to take back if it fails. An undo is pushed before its step is
 * awaited: the step can time out here and still have happened, so every undo
 * accepts that there is nothing to undo.
 */
export class UndoStack {
  private readonly undos: { name: string; undo: () => Promise<unknown> }[] = [];

  push(name: string, undo: () => Promise<unknown>): void {
    this.undos.push({ name, undo });
  }

  /** Forgets everything: what was pushed so far is no longer this run's to take back. */
  clear(): void {
    this.undos.length = 0;
  }

  /**
   * Runs all undos, newest first, shielded from cancellation. One that fails for good
   * does not keep the others from running; returns what failed, empty when all is undone.
   */
  unwind(): Promise<string[]> {
    return CancellationScope.nonCancellable(async () => {
      const failed: string[] = [];
      for (let next = this.undos.pop(); next; next = this.undos.pop()) {
        try {
          await next.undo();
        } catch (err) {
          const { message } = describeFailure(err);
          log.error('undo failed', { undo: next.name, message });
          failed.push(`${next.name}: ${message}`);
        }
      }
      return failed;
    });
  }
}
