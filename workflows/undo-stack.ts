import { CancellationScope, log } from '@temporalio/workflow';
import type { ErrorCode } from './contract/errors.js';
import { describeFailure } from './failure.js';

/** An undo that failed for good. */
export interface UndoFailure {
  undo: string;
  code: ErrorCode;
  message: string;
}

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

  get isEmpty(): boolean {
    return this.undos.length === 0;
  }

  /** Forgets everything: what was pushed so far is no longer this run's to take back. */
  clear(): void {
    this.undos.length = 0;
  }

  /**
   * Runs all undos, newest first, shielded from cancellation. One that fails for good
   * does not keep the others from running; returns what failed, empty when all is undone.
   */
  unwind(): Promise<UndoFailure[]> {
    return CancellationScope.nonCancellable(async () => {
      const failed: UndoFailure[] = [];
      for (let next = this.undos.pop(); next; next = this.undos.pop()) {
        try {
          await next.undo();
        } catch (err) {
          const { code, message } = describeFailure(err);
          log.error('undo failed', { undo: next.name, code, message });
          failed.push({ undo: next.name, code, message });
        }
      }
      return failed;
    });
  }
}

/** As it is recorded on the operation, for whoever must look. */
export function asAttention(failures: readonly UndoFailure[]): string[] {
  return failures.map(({ undo, message }) => `${undo}: ${message}`);
}
