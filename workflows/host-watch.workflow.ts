import {
  continueAsNew,
  isCancellation,
  log,
  setCurrentDetails,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { control } from './control-steps.js';
import type { HostWatchInput } from './contract/operations.js';
import { STAGE } from './contract/search-attributes.js';
import { describeFailure } from './failure.js';
import { reconcileHost } from './reconcile-host.js';

/** How soon a host that is back but does not take its tasks yet is asked again. */
const ASK_AGAIN_MS = 5_000;

/**
 * Watches the lease of one host, for as long as the host is known. A host that stops answering is lost and its sandboxes
 * are `missing`; when it is back they are compared with what it holds. Nothing is ever deleted for a host's silence.
 */
export async function HostWatch({ hostId }: HostWatchInput): Promise<void> {
  let shown = '';
  const show = (stage: string, details: string): void => {
    setCurrentDetails(details);
    if (shown !== stage) upsertSearchAttributes([{ key: STAGE, value: stage }]);
    shown = stage;
  };
  for (;;) {
    const lease = await control.checkLease({ hostId });
    switch (lease.state) {
      case 'gone':
        show('gone', `host \`${hostId}\` is not known any more`);
        return;
      case 'held':
        show('held', `host \`${hostId}\` answers`);
        await sleep(lease.checkInMs, { summary: 'until its lease would run out' });
        break;
      case 'lost':
        show(
          'lost',
          `host \`${hostId}\` does not answer: its sandboxes are missing until it does. See \`torpor host ls\``,
        );
        await sleep(lease.checkInMs, { summary: 'until it is looked at again' });
        break;
      case 'returned':
        show('returned', `host \`${hostId}\` is back: its sandboxes are compared with what it holds`);
        if (!(await takeBack(hostId))) await sleep(ASK_AGAIN_MS, { summary: 'until it is asked again' });
    }
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof HostWatch>({ hostId });
  }
}

/** Whether the host told what it holds. Until it does the loss goes on, and it may be lost again meanwhile. */
async function takeBack(hostId: string): Promise<boolean> {
  try {
    const options = { dryRun: false, removeUnknown: false, reason: 'host_returned' };
    const { answered } = await reconcileHost({ id: hostId, online: true }, options);
    if (answered) await control.endLoss({ hostId });
    return answered;
  } catch (err) {
    if (isCancellation(err)) throw err;
    // A watch that ends would leave the host unwatched; the next comparison finds again what this one could not mend.
    log.error('a host that is back could not be compared with its rows', { hostId, ...describeFailure(err) });
    return false;
  }
}
