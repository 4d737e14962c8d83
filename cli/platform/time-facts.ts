import { tryCommand } from './command.js';
import { fact, type Fact } from './machine-facts.js';

/** No machine that runs this lives before this program was written. */
const OLDEST_SANE_TIME = Date.UTC(2025, 0, 1);

/** Guests get their time from here, and leases and certificates depend on it. */
export async function timeFacts(): Promise<Fact[]> {
  return [clock(Date.now()), synchronization(await askTimedate())];
}

export function clock(now: number): Fact {
  const detail = new Date(now).toISOString();
  return fact('clock', true, { ok: now > OLDEST_SANE_TIME, detail }, 'set the clock, for example with chrony');
}

const REMEDY = 'apt-get install chrony, or systemctl enable --now systemd-timesyncd';

/** `answer` is what `timedatectl show --property=NTPSynchronized --value` prints. */
export function synchronization(answer: string | undefined): Fact {
  const detail =
    answer === undefined
      ? 'nobody here can tell (there is no timedatectl that answers)'
      : answer === 'yes'
        ? 'by a time server'
        : 'not synchronized: hosts that drift apart disagree about leases, and guests about certificates';
  return fact('time', false, { ok: answer === 'yes', detail }, REMEDY);
}

async function askTimedate(): Promise<string | undefined> {
  const argv = ['timedatectl', 'show', '--property=NTPSynchronized', '--value'] as const;
  const result = await tryCommand(argv, { timeoutMs: 5_000 }).catch(() => undefined);
  return result?.exitCode === 0 ? result.stdout.trim() : undefined;
}
