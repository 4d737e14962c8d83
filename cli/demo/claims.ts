import pc from 'picocolors';
import type { StepReport } from '../step-report.js';

/** What the demo says about the product. Each is checked where it is said, and one that does not hold fails the demo at its end. */
export class Claims {
  #held = 0;
  readonly #broken: string[] = [];

  constructor(private readonly report: StepReport) {}

  /** `found` is what was seen, shown beside the claim in either case. */
  check(claim: string, holds: boolean, found: string): void {
    if (holds) this.#held += 1;
    else this.#broken.push(claim);
    const mark = holds ? pc.green('✓') : pc.red('✗');
    this.report.say(`    ${mark} ${claim} ${pc.dim(`(${found})`)}`, { claim, holds, found });
  }

  /** Nothing may be in the list. */
  none(claim: string, things: readonly string[]): void {
    this.check(claim, things.length === 0, things.length === 0 ? 'none' : things.join(', '));
  }

  get held(): number {
    return this.#held;
  }

  get broken(): readonly string[] {
    return this.#broken;
  }
}
