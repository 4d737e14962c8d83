import type { Api } from './e2e-api.js';

/** One look at the counter and the clocks of a guest. */
export interface CounterReading {
  count: number;
  /** Pid and start of the counting process: another one is another process. */
  process: string;
  /** Seconds that the guest has been running. */
  uptime: number;
  /** How far the guest's clock is outside the time that the reading took on the host. */
  clockErrorMs: number;
  hostBeforeMs: number;
  hostAfterMs: number;
}

/** The count lives in a variable of this shell; /dev/shm, which is memory too, is where it can be read. */
const COUNT = 'n=0; while :; do n=$((n + 1)); echo $n > /dev/shm/count; sleep 0.1; done';

/** The file is empty for a moment whenever it is written. */
const LOOK = `look() { n=; until read -r n < /dev/shm/count && [ -n "$n" ]; do :; done 2> /dev/null; }
look`;

const TELL = `read -r pid < /dev/shm/pid
read -r uptime rest < /proc/uptime
echo "$n $pid.$(cut -d ' ' -f 22 /proc/$pid/stat) $uptime $(date +%s%3N)"`;

export async function startCounter(api: Api, id: string): Promise<void> {
  await api.sh(id, `setsid sh -c '${COUNT}' < /dev/null > /dev/null 2>&1 & echo $! > /dev/shm/pid`);
}

/** `meanwhile` may call `look`, which reads the count into `n`. */
export async function readCounter(api: Api, id: string, meanwhile = ''): Promise<CounterReading> {
  const hostBeforeMs = Date.now();
  const text = await api.sh(id, `${LOOK}\n${meanwhile}\n${TELL}`);
  const hostAfterMs = Date.now();
  const [count, process = '', uptime, clock] = text.split(' ');
  if (!/^\d+\.\d+$/.test(process)) throw new Error(`the counter cannot be read: ${JSON.stringify(text)}`);
  const guestMs = Number(clock);
  const clockErrorMs = Math.max(0, hostBeforeMs - guestMs, guestMs - hostAfterMs);
  return { count: Number(count), process, uptime: Number(uptime), clockErrorMs, hostBeforeMs, hostAfterMs };
}
