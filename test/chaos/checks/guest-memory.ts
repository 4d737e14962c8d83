import { setTimeout as delay } from 'node:timers/promises';
import type { Api } from '../../support/e2e-api.js';

/** What exists nowhere but in the memory of a guest, or on its disk. */
export interface GuestFacts {
  /** Drawn when the guest booted. */
  nonce: string;
  /** How often it was asked to count. */
  count: number;
  /** Grows by itself while the guest runs. */
  ticks: number;
}

/** How a guest is asked. The simulated one has programs for it; a real one needs a line of shell. */
export interface GuestProbe {
  /** Before the first look. `seed` decides what is written to the disk. */
  plant(api: Api, id: string, seed: string): Promise<void>;
  look(api: Api, id: string): Promise<GuestFacts>;
  /** Throws when the disk does not hold what was planted. */
  checkDisk(api: Api, id: string, seed: string): Promise<void>;
}

/** What is wrong with what a guest says now, given what it said before. */
export function forgotten(before: GuestFacts, now: GuestFacts): string[] {
  const problems: string[] = [];
  if (now.nonce !== before.nonce) problems.push(`its memory is another one: nonce ${before.nonce} became ${now.nonce}`);
  if (now.count <= before.count) problems.push(`its count went from ${before.count} to ${now.count}`);
  if (now.ticks < before.ticks) problems.push(`its ticks went from ${before.ticks} back to ${now.ticks}`);
  return problems;
}

export const simulatedGuest: GuestProbe = {
  plant: async (api, id, seed) => {
    await say(api, id, `write-disk ${seed}`);
  },
  look: async (api, id) => ({
    nonce: await say(api, id, 'nonce'),
    count: Number(await say(api, id, 'count')),
    ticks: Number(await say(api, id, 'ticks')),
  }),
  checkDisk: async (api, id, seed) => {
    await say(api, id, `check-disk ${seed}`);
  },
};

/** A host worker that was just started is known to the API a moment later. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 100;
/** An emulated guest that shares its processor with a round of others is slow at times. */
const COMMAND_SECONDS = 120;

/** Standard output of a command in the guest, asked again while the way to the guest is not there. */
export async function say(api: Api, id: string, command: string): Promise<string> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await api.sh(id, command, { timeout_seconds: COMMAND_SECONDS });
    } catch (error) {
      // What the command itself said is no matter of patience.
      const passing = !/ in \w+: (exit code|timed out)/.test((error as Error).message);
      if (!passing || Date.now() > deadline) throw error;
      await delay(AGAIN_MS);
    }
  }
}
