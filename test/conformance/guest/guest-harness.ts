import type { Guest } from '../../../activities/host/ports.js';

/** One guest with its agent, as a test handles it from outside. */
export interface GuestMachine {
  readonly id: string;
  /** Where this host reaches it, the agent running or not. */
  readonly address: string;
  /** A fresh guest; returns before its agent need answer. One that runs is left alone. */
  start(): Promise<void>;
  /** At once and without a word, with everything in it. */
  crash(): Promise<void>;
  /** It stands still, its connections stay. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

/** Commands that the guest knows. A real one has a shell; the simulated one has a few words. */
export interface GuestCommands {
  silent: string;
  prints: { command: string; output: RegExp };
  fails: { command: string; exitCode: number; output: RegExp };
}

export interface GuestHarness {
  guest: Guest;
  /** A second instance of the driver, as after a restart of the worker. */
  restarted(): Guest;
  one: GuestMachine;
  other: GuestMachine;
  commands: GuestCommands;
  dispose(): Promise<void>;
}

/** What a caller with this token sees of the environment that programs get: it, or the status of a refusal. */
export async function environment(address: string, token: string): Promise<Record<string, string> | number> {
  const headers = { 'x-access-token': token, connection: 'close' };
  const answer = await fetch(`http://${address}:${AGENT_PORT}/envs`, { headers, signal: AbortSignal.timeout(10_000) });
  return answer.ok ? ((await answer.json()) as Record<string, string>) : answer.status;
}

export const AGENT_PORT = 49_983;
