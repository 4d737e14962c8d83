import type { HostDirectories } from '../../test/chaos/checks/host-view.js';

/** What an orchestrator says of a sandbox. `busy`: on its way to another state. `unknown`: there is no such sandbox. */
export type Claim = 'running' | 'paused' | 'busy' | 'error' | 'unknown';

/** A request that was answered, and not with success. */
export class Refused extends Error {
  constructor(
    message: string,
    /** Of the sandbox, where a create was refused that has left one. */
    readonly id?: string,
  ) {
    super(message);
    this.name = 'Refused';
  }
}

/**
 * One of those that are compared, as its callers see it. Requests return when their work is done, throw `Refused`
 * when the answer is no, and throw anything else when there is no answer, as while the process is being restarted.
 */
export interface Orchestrator {
  readonly name: string;
  /** Of the machine that it drives. */
  readonly host: HostDirectories & { ledger: string };
  /** The same name again is the same request. Its id; it runs. */
  create(name: string, timeoutSeconds: number): Promise<string>;
  pause(id: string): Promise<void>;
  /** Without a timeout from here on. */
  resume(id: string): Promise<void>;
  destroy(id: string): Promise<void>;
  claim(id: string): Promise<Claim>;
  /** Standard output of a program in the guest that has to succeed. */
  exec(id: string, command: string): Promise<string>;
  /** Everything that it knows. */
  claims(): Promise<ReadonlyMap<string, Claim>>;
  /** Name of the create request that a sandbox of the machine came from, whether the orchestrator knows it or not. */
  requestOf(id: string): string;
  /** SIGKILL to the process on the machine, and a new one in its place; returns when that one serves. */
  killAndRestart(): Promise<void>;
  /** Ends its processes. What they leave on the machine is removed as well, with all files. */
  close(): Promise<void>;
}
