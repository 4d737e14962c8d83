/** What a toy says of one sandbox. */
export interface ToySandbox {
  id: string;
  name: string;
  state: 'creating' | 'running' | 'pausing' | 'paused' | 'resuming' | 'destroying' | 'error';
  error?: string;
}

export const STATUS = { notFound: 404, conflict: 409, failed: 500 } as const;

/** An answer other than success. */
export class ToyError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly id?: string,
  ) {
    super(message);
  }
}

/** The requests that both toys serve; each returns when its work is done. */
export interface Toy {
  /** A name is given once: who asks for it again gets the sandbox that has it. */
  create(name: string, timeoutSeconds: number): Promise<ToySandbox>;
  pause(id: string): Promise<ToySandbox>;
  resume(id: string): Promise<ToySandbox>;
  destroy(id: string): Promise<void>;
  exec(id: string, command: string): Promise<{ exitCode: number; output: string }>;
  get(id: string): Promise<ToySandbox>;
  list(): Promise<ToySandbox[]>;
}

/** Ids are the server's to give. The name in front lets the bench tell which request made what is found on the machine. */
export function newId(name: string): string {
  return `${name}x${Math.random().toString(16).slice(2, 10).padEnd(8, '0')}`;
}

/** A second try is what most code has for a command that fails once in a while. */
export async function twice<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch {
    return work();
  }
}
