import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '../config.js';

/** Where people look at a run. */
@Injectable()
export class TemporalLinks {
  constructor(@Inject(CONFIG) private readonly config: Pick<Config, 'temporalUiUrl' | 'temporalNamespace'>) {}

  readonly of = (workflowId: string, runId: string): string | null => {
    const { temporalUiUrl, temporalNamespace } = this.config;
    if (temporalUiUrl === null) return null;
    return `${temporalUiUrl}/namespaces/${temporalNamespace}/workflows/${encodeURIComponent(workflowId)}/${runId}/history`;
  };
}
