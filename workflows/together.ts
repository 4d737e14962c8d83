import { CancellationScope } from '@temporalio/workflow';

/**
 * Runs steps side by side. When one fails the others are cancelled and awaited
 * before the failure is thrown, so that no undo meets a step that still runs.
 */
export async function together(...steps: (() => Promise<unknown>)[]): Promise<void> {
  let failed: { err: unknown } | undefined;
  await CancellationScope.cancellable(async () => {
    const scope = CancellationScope.current();
    await Promise.all(
      steps.map(async (step) => {
        try {
          await step();
        } catch (err) {
          failed ??= { err };
          scope.cancel();
        }
      }),
    );
  });
  if (failed) throw failed.err;
}
