import { CliError } from '../cli-error.js';
import type { RestClient } from '../rest-client.js';

/** One look at the counter and the clocks of the guest, with the host's time around it. */
export interface CounterReading {
  count: number;
  /** Start time of the counting process in the guest: another one is another process. */
  process: string;
  /** Seconds that the guest has been running. */
  uptime: number;
  /** The guest's wall clock. */
  guestMs: number;
  hostBeforeMs: number;
  hostAfterMs: number;
}

/** The count lives in a variable of this shell; /dev/shm, which is memory too, is where it can be read. */
const START = `cat > /dev/shm/counter.sh <<'END'
n=0
while :; do
  n=$((n + 1))
  echo "$n" > /dev/shm/count.new
  mv /dev/shm/count.new /dev/shm/count
  sleep 0.1
done
END
setsid sh /dev/shm/counter.sh < /dev/null > /dev/null 2>&1 &
echo $! > /dev/shm/pid
until [ -e /dev/shm/count ]; do sleep 0.1; done`;

const READ = `read -r count < /dev/shm/count
read -r pid < /dev/shm/pid
read -r uptime rest < /proc/uptime
echo "$count" "$pid.$(cut -d ' ' -f 22 "/proc/$pid/stat")" "$uptime" "$(date +%s.%N)"`;

/** The shortest time that one step of the counter takes, in seconds. */
export const COUNT_SECONDS = 0.1;

export async function startCounter(client: RestClient, id: string): Promise<void> {
  await run(client, id, START);
}

export async function readCounter(client: RestClient, id: string, before = ''): Promise<CounterReading> {
  const hostBeforeMs = Date.now();
  const output = await run(client, id, `${before}${READ}`);
  return { ...parseReading(output), hostBeforeMs, hostAfterMs: Date.now() };
}

export function parseReading(output: string): Pick<CounterReading, 'count' | 'process' | 'uptime' | 'guestMs'> {
  const [count, process = '', uptime, clock] = output.trim().split(' ');
  const reading = { count: Number(count), process, uptime: Number(uptime), guestMs: Number(clock) * 1000 };
  if (![reading.count, reading.uptime, reading.guestMs].every(Number.isFinite) || !/^\d+\.\d+$/.test(process)) {
    throw new CliError(`the counter in the guest cannot be read: ${JSON.stringify(output)}`);
  }
  return reading;
}

/** Runs a line of shell in the guest that has to succeed. */
export async function run(client: RestClient, id: string, command: string): Promise<string> {
  const { exit_code, stdout, stderr, timed_out } = await client.exec(id, { command, timeout_seconds: 60 });
  if (exit_code === 0) return stdout;
  throw new CliError(
    `a command in the sandbox ${timed_out ? 'took too long' : `ended with exit code ${exit_code}`}: ${stderr.trim()}`,
  );
}
