import type { Answered } from './caller.js';
import { nameOf, type Boundary } from './boundary.js';
import type { ProcessName } from './chaos-process.js';
import type { GuestFacts } from './checks/guest-memory.js';
import { VIOLATIONS, type Violation, type ViolationKind } from './checks/violation.js';
import type { Track } from './director.js';
import { buildOf, sandboxOf, STORIES, type OperationName, type Story } from './stories.js';

/** What is to be tried: this operation, with this process killed while it stands at this boundary. */
export interface CasePlan {
  operation: OperationName;
  process: ProcessName;
  /** Absent: the process is killed at an instant of chance. */
  boundary?: Boundary;
}

/** One operation on one sandbox or build of its own that has to survive one kill. */
export class Case {
  readonly story: Story;
  readonly subject: string;
  readonly violations: Violation[] = [];
  guest: GuestFacts | undefined;
  track: Track | undefined;
  answer: Promise<Answered> | undefined;
  /** Why it could not be prepared. */
  unprepared: string | undefined;
  /** It did not come to its boundary, and went on while the process was killed. */
  missed = false;
  turnedBack = false;
  /** From the start of the process that was killed to the end of the operation. */
  recoveryMs: number | undefined;

  constructor(
    readonly plan: CasePlan,
    /** Unlike those of all other cases of all runs: ids are made from it. */
    readonly key: string,
  ) {
    this.story = STORIES[plan.operation];
    // A sandbox is made under a key of its own before the operation that is tried.
    this.subject = plan.operation === 'build' ? buildOf(key) : sandboxOf(key);
  }

  /** Of the request that is tried. */
  get requestKey(): string {
    return this.story.from === null ? this.key : `${this.key}-${this.plan.operation}`;
  }

  get workflowId(): string {
    return this.plan.operation === 'build' ? `template-build/${this.subject}` : `sandbox/${this.subject}`;
  }

  get name(): string {
    const { operation, process, boundary } = this.plan;
    const when = boundary === undefined ? 'at an instant of chance' : nameOf(boundary);
    return `${operation} × ${process} ${when} (${this.subject})`;
  }

  blame(...violations: Violation[]): void {
    this.violations.push(...violations);
  }

  has(kind: ViolationKind): boolean {
    return this.violations.some((violation) => violation.kind === kind);
  }

  /** What was to be tried was not: it says nothing, unless something went wrong all the same. */
  get isVoid(): boolean {
    return (this.missed || this.unprepared !== undefined) && !this.isBad;
  }

  get isBad(): boolean {
    return VIOLATIONS.some((kind) => this.has(kind));
  }
}
