import type { Quantiles, Verb } from './latency.js';
import type { Things } from './machine-truth.js';

/** What became of one orchestrator's sandboxes. */
export interface DurabilityRow {
  orchestrator: string;
  sandboxes: number;
  kills: number;
  /** Sandboxes that had everything that was promised when all was quiet, or were destroyed as their owner wished. */
  kept: number;
  lost: string[];
  duplicated: string[];
  stuck: string[];
  leaked: Things;
  /** Requests that were answered with no, undone, and sent again by their owner. */
  refused: string[];
  seconds: number;
  latency: Record<Verb, Quantiles>;
}
